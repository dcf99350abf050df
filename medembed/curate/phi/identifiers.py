"""Patterns for the identifiers of the HIPAA Safe Harbor list that have a shape or a label; names have a module of their own.

What stands before `\\K` must stand in the text and is no part of the finding. Every repetition is bounded or of one class of
characters, so that time stays linear in the text, whatever it holds.
"""

from medembed.curate.phi.classes import PhiClass

SURE, LIKELY, WEAK = (
    0.9,
    0.7,
    0.5,
)  # labelled or unmistakable; of a typical shape; a shape that other things have as well

# What may stand between a label and its value: `MRN: 123`, `MRN # 123`, `member ID is 123`, `Account No. (123)`.
_IS = r"(?:[ \t]{0,3}(?i:numbers?|num|no\b\.?|nbr|id\b|ids|code|is|was|of|ending in|ends in|\#|:|=|\(|-|–|,)){0,4}[ \t]{0,3}"
# A value of letters and digits with at least three digits, at most 32 characters: `123456`, `H-20481`, `AB 123 456 7`.
_VALUE = r"(?=(?:[A-Za-z./-]{0,6}\d[ ]?){3})[A-Za-z\d](?:[./-]?[A-Za-z\d]){1,30}(?:[ -]\d{2,8}){0,4}\b"
_CODE = (
    r"(?=[A-Za-z./-]{0,8}\d)[A-Za-z\d](?:[./-]?[A-Za-z\d]){3,30}\b"  # one digit is enough, after a label that is sure
)


_NUMBERED = r"(?=[ \t]{0,3}(?i:numbers?\b|num\b|no\b|nbr\b|id\b|ids\b|code\b|\#|:))"  # an everyday word needs `number`, `#`, `:` …
_COUNTED = r"(?=[ \t]{0,3}(?i:numbers?\b|num\b|no\b|nbr\b|id\b|code\b|\#))"  # … and a colon is not enough


def _labelled(label: str, value: str = _VALUE, needs: str = "", below: bool = True) -> str:
    """A value behind its label; on the line below it as well, where that cannot be the next thing said (`Plan:` and `500 mg`)."""
    under = rf"|{_COUNTED if needs else ''}{_IS}\n[ ]{{0,3}}" if below else ""
    return rf"(?<![A-Za-z])(?i:{label})(?:{needs}{_IS}{under})\K{value}"


# ---- dates -----------------------------------------------------------------------------------------------------------

_MONTH = (
    r"(?:(?i:january|february|april|june|july|august|september|october|november|december)"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|JAN|FEB|MAR|APR|JUN|JUL|AUG|SEPT?|OCT|NOV|DEC)\b\.?"
    r"|March|MARCH|May|MAY)"
)
_FULL_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)(?![a-z])(?!['’]s\s+[A-Z])"
_D, _M = r"(?:3[01]|[12]\d|0?[1-9])", r"(?:1[0-2]|0?[1-9])"
_YEAR, _YY = r"(?:19|20)\d\d", r"(?:(?:19|20)\d\d|['’]?\d\d)"
_TH = r"(?:st|nd|rd|th|ST|ND|RD|TH)"
_TIME = r"(?:[T ,]{1,2}\d\d?:\d\d(?::\d\d)?(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?)?"
_SMALL = r"(?:jan|feb|mar|march|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?"  # `may` is rather a word
_DAY = r"(?:(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\b\.?)"
_WEEKDAY = rf"(?:{_DAY},?\s)?"
_NO_UNIT = r"(?!\d|[ -]?(?:mg|mcg|ml|mL|cc|cm|mm|units?|tabs?|tablets?|times|days?|weeks?|months?|hours?|hrs?|%|x\b|of\s\d)|[.]\d)"
_EVENT = (
    r"(?i:on|since|until|till|through|thru|after|before|dated?|by|starting|started|beginning|began|seen|admit(?:ted)?|"
    r"discharged?|dos|dob|d\.o\.b\.|doa|dod|visit|appointment|appt|due|menses|period|shots?|vaccin(?:e|ated|ation)|injection|injected|infusion|dialysis|mammogram|colonoscopy|pap|ultrasound|endoscopy|egd|cath|stress test|labs?|ct|mri|mra|echo|ekg|ecg|x-?ray|cxr|cultures?|biopsy|"
    r"surgery|exam|lmp|edd|edc|ga|placed|removed|signed|expires?|born|last|tomorrow|today|yesterday|week of|f/u|follow-?up)"
)
_LONE = rf"{_M}/{_D}(?![\d/]|\s?(?:ns|NS|D5|strength|pain|vision|systolic|diastolic|murmur|bilat|in|of|on|tab|pack|pills?|points?)\b|[.%]\d)"

# ---- places ----------------------------------------------------------------------------------------------------------

# Abbreviations of states that mean nothing else in a note, and those that do (a doctor, a scan, `or`, `in`).
_STATE = r"(?:AK|AZ|AR|CA|DC|FL|GA|IA|IL|KS|KY|MN|MO|MT|NC|ND|NH|NJ|NM|NV|NY|OH|RI|SC|SD|TN|TX|UT|VA|VT|WA|WI|WV|WY|PR)"
_ANY_STATE = rf"(?:{_STATE}|AL|CO|CT|DE|HI|ID|IN|LA|MA|MD|ME|MI|MS|NE|OK|OR|PA)"
_STATE_NAME = (
    r"(?:Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|"
    r"Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|"
    r"New\s(?:Hampshire|Jersey|Mexico|York)|North\s(?:Carolina|Dakota)|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode\sIsland|"
    r"South\s(?:Carolina|Dakota)|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West\sVirginia|Wisconsin|Wyoming)"
)
_COUNTRY = (
    r"(?:United|America|England|Scotland|Wales|Ireland|Canada|Mexico|Guatemala|Honduras|Nicaragua|Cuba|Haiti|Jamaica|Brazil|Peru|"
    r"Chile|Argentina|Colombia|Ecuador|Venezuela|France|Germany|Spain|Portugal|Italy|Greece|Poland|Russia|Ukraine|Romania|Turkey|"
    r"Egypt|Morocco|Algeria|Nigeria|Ghana|Kenya|Ethiopia|Somalia|Sudan|Uganda|Tanzania|Zimbabwe|Iran|Iraq|Syria|Israel|Lebanon|"
    r"Saudi|Afghanistan|Pakistan|India|Nepal|Bangladesh|Sri|China|Japan|Korea|Vietnam|Thailand|Laos|Cambodia|Indonesia|Malaysia|"
    r"Philippines|Australia|Africa|Asia|Europe|Sweden|Norway|Denmark|Finland|Netherlands|Belgium|Austria|Switzerland|Hungary|"
    r"Southeast|Central|South|North|West|East|Eastern|Western|Northern|Southern|Latin|Middle|Puerto|El|Dominican|New\sZealand|"
    r"Assisted|Section|Dr|Mr|Mrs|Ms|Hospital|Children|Medical|Clinic|Rehab|Emergency|Recovery|Nursing|Hospice|Medicare|Medicaid|English|Spanish|State|The)"
)
_WORD = r"[A-Z][a-z]{1,20}(?:['’-][A-Z]?[a-z]{1,20})?"
_CITY = rf"(?:(?:St|Ft|Mt)\.\s)?{_WORD}(?:[ ](?:del?\s|la\s|of\s)?{_WORD}){{0,2}}"
_LIVES = (
    r"(?i:liv(?:es?|ed|ing)|resid(?:es?|ed|ing)|resident|born|rais(?:ed|es)|grew up|mov(?:ed|ing)|relocat(?:ed|ing)|native|winters?|summers?|"
    r"drove|drives|travell?(?:ed|s|ing)|flew|works?|working|employed|visiting|home|stays?|staying|located|originally)"
)
_STREET = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Way|Terrace|Ter|Circle|Cir|Parkway|Pkwy|"
    r"Highway|Hwy|Square|Sq|Trail|Trl|Close|Crescent|Row|Alley|Loop|Turnpike|Pike|Plaza|Run|Mews|Gardens|Route)"
)
_UNIT = (
    r"(?:,?\s(?:Apartment|Apt|Unit|Suite|Ste|Room|Rm|Floor|Fl|Lot|Flat|\#)\.?[ ]?\#?[ ]?[A-Za-z]?\d{0,5}[A-Za-z]?\b)?"
)
_NO_HOUSE = (
    r"(?!(?:The|This|That|A|An|Our|Your|Any|Every|Each|Pain|Sleep|Wound|Eye|Heart|Cancer|Diabetes|Diabetic|Coumadin|Anticoagulation|"
    r"Outpatient|Inpatient|Local|General|Emergency|Acute|Primary|Urgent|Community|Regional|Psychiatric|Mental|Behavioral|Public|"
    r"Home|Surgery|Surgical|Medical|Orthopedic|Orthopaedic|Cardiology|Neurology|Oncology|Dental|Allergy|Asthma|Skilled|In|At|To|From|"
    r"Admitted|Transferred|Outside|Middle|Junior|Senior|High|Elementary|Past|Prior|Previous|Arthritis|Memory|Stroke|Trauma|Burn|"
    r"Children|Women|Men|Veterans|State|County|City|Rehabilitation|Rehab|Specialty|Family|Fracture|Hand|Spine|Voiding|Renal|GI|ENT|"
    r"Fertility|Infertility|Headache|Heart|Vascular|Foot|Liver|Lipid|Breast|Kidney|Infusion|Device|Pacemaker|Travel|Weight|Walk|Dr|"
    r"\w{2,14}ology|\w{2,14}iatrics?|\w{2,14}surgery|Vision|Transplant|Management|Medicine|Maintenance|Night|Occupational|Abc|ABC|XYZ|Center|Dialysis|Immunization|Vaccine|Vaccination|Methadone|Tumor|Post\w{0,12}|Sample|Intensive|Coronary|Critical|Labor|Recovery|Hospital|Prenatal|Ob|Gyn|Pre|Pediatric|Pulmonary|Hospital|Clinic|Free|Private|Day|Nursing|Teaching|Academic|Genetics|His|Her|My)\b)"
)
_FACILITY = (
    r"(?:Hospital|Medical\sCent(?:er|re)|Health\s(?:System|Cent(?:er|re))|Clinic|Infirmary|Nursing\sHome|Hospice|"
    r"Rehabilitation(?:\sCent(?:er|re))?|Elementary(?:\sSchool)?|Middle\sSchool|High\sSchool|University|College|Church|"
    r"Care\sCent(?:er|re)|Cancer\sCent(?:er|re)|Surgery\sCent(?:er|re)|Manor|Assisted\sLiving)"
)

# ---- numbers ---------------------------------------------------------------------------------------------------------

_NANP = r"(?:\+?1[ .-]?)?(?:\(\d{3}\)[ -]{0,2}|\d{3}[ ]?[-.–/ ][ ]?)[2-9]\d{2}[ ]?[-.– ][ ]?\d{4}"
_EXT = r"(?:,?[ ]?(?i:x|ext\.?|extension)[ ]?\d{1,6})?(?![\d-]|[.]\d)"
_ABROAD = r"\+[ ]?\d{1,3}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{2,5}){1,4}(?!\d)"
_BRITISH = r"(?:\(?0\d{4}\)?[ ]\d{6}|\(?0\d{4}\)?[ ]\d{3}[ ]\d{3}|\(?0\d{3}\)?[ ]\d{3}[ ]\d{4}|\(?02\d\)?[ ]\d{4}[ ]\d{4}|07\d{3}[ ]?\d{3}[ ]?\d{3})\b"
_ANY_PHONE = rf"(?:{_NANP}{_EXT}|{_ABROAD}|{_BRITISH}|\d{{3}}[-. ]\d{{4}}\b|\d{{10,11}}\b)"
_PHONE_LABEL = (
    r"\b(?i:(?:tele)?phone|tel|mobile|cell(?:ular)?|call(?:ed|ing|s|back)?|reach(?:ed|able)?|contact(?:ed)?|ph|home|work|office|"
    r"voicemail|text(?:ed)?|whatsapp|dial(?:ed)?|ring|hotline)\b[^\d\n]{0,28}?"
)
_DOMAIN = r"(?:com|org|net|gov|edu|mil|info|health|care|clinic|example|test|io|co\.uk|nhs\.uk|ac\.uk|org\.uk|uk|ca|au|de|fr|eu)"
_NINETIES = r"(?:9\d|1[0-2]\d)"
_NO_MEASURE = r"(?!\d|[./%:,-]\d|\s?(?:mg|mcg|ml|mL|kg|lbs?|mm|cm|bpm|days?|weeks?|months?|hours?|hrs?|minutes?|min|seconds?|percent|pounds?|degrees?|over|x|units?|F|C)\b|\s?[%/])"
_PERSON = r"(?i:patient|pt|she|he|mother|father|mom|dad|aunt|uncle|wife|husband|sister|brother|grandmother|grandfather|sibling|spouse|parent)"

IDENTIFIERS: dict[PhiClass, tuple[tuple[str, float], ...]] = {
    "date": (
        (
            rf"(?<![\d./-])(?=\d\d?[/.-]\d)(?:{_M}([/.-]){_D}|{_D}([/-]){_M}|{_D}(\.){_M})(?:\1|\2|\3){_YEAR}{_TIME}(?![\d/-])",
            SURE,
        ),
        (rf"(?<![\d./-]){_M}/{_D}/['’]?\d\d(?![\d/%])", SURE),
        (rf"(?<![\d./-])(?:3[01]|2\d|1[3-9])/{_M}/\d\d(?![\d/%])", LIKELY),
        (rf"(?<![\d./A-Za-z-]){_M}-{_D}-\d\d(?![\d/-])", LIKELY),
        (r"(?<![\d./A-Za-z-])(?:0\d|1[0-2])\.(?:[0-2]\d|3[01])\.\d\d(?![\d./-])", LIKELY),
        (rf"(?<![\d./-]){_YEAR}([/.-])(?:1[0-2]|0[1-9])\1(?:3[01]|[12]\d|0[1-9]){_TIME}(?![\d/-])", SURE),
        (
            rf"\b(?i:dates?|dob|dos|doa|born|admit|discharged?|birth)\b{_IS}\K{_YEAR}(?:1[0-2]|0[1-9])(?:3[01]|[12]\d|0[1-9])\b",
            SURE,
        ),
        (
            rf"\b(?i:dob|d\.o\.b\.|date of birth|birth ?date|born)\b{_IS}\K(?:on[ ])?{_M}[/. -]{_D}[/. -]\d\d(?:\d\d)?\b",
            SURE,
        ),
        (rf"(?<![\d/.]){_M}/{_YEAR}(?![\d/-])", SURE),
        (rf"(?<![\d/.-])(?:0[1-9]|1[0-2])-{_YEAR}(?![\d/-])", LIKELY),
        (
            rf"\b{_WEEKDAY}{_MONTH}\s{{0,2}}(?:the\s)?{_D}(?:\s?{_TH})?(?:(?:\s?,\s?|\s|\sof\s|-){_YEAR}\b|,?\s?['’]\d\d\b|{_NO_UNIT})",
            SURE,
        ),
        (rf"\b{_MONTH}[ ,.-]{{0,3}}(?:of\s)?{_YEAR}\b", SURE),
        (rf"\b(?:{_SMALL}|may)\s{{0,2}}{_D}(?:\s?{_TH})?(?:\s?,\s?|\s|\sof\s|-){_YEAR}\b{_NO_UNIT}", SURE),
        (
            rf"(?<![\d/.-]){_D}(?:\s?{_TH})?(?:\s(?:day\s)?of)?[ -]?(?:{_SMALL}|may)[ ,/-]{{0,2}}{_YEAR}\b{_NO_UNIT}",
            SURE,
        ),
        (rf"\b{_SMALL}[ ,.-]{{0,3}}(?:of\s)?{_YEAR}\b{_NO_UNIT}", LIKELY),
        (rf"\b(?i:in|since|until|till|by|from|during|of|last)\s\Kmay[ ,]{{1,2}}{_YEAR}\b{_NO_UNIT}", LIKELY),
        (
            rf"\b(?i:on|since|until|till|by|from|before|after|dated?|seen|born|due|admitted|discharged)\s\K(?:{_SMALL}|may)\s{_D}(?:\s?{_TH})?\b{_NO_UNIT}(?!\s(?i:steps|doses?|visits|sessions|points?|people|patients|or|to))",
            LIKELY,
        ),
        (rf"\b{_MONTH}[ -]?['’]\d\d\b", SURE),
        (rf"\b{_DAY},?\s(?:the\s)?\d{{1,2}}{_TH}\b", LIKELY),
        (r"\b(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\b(?![.-]\d)", LIKELY),
        (
            r"\b(?:Easter\sSunday|Christmas\s(?:Day|Eve)|New\sYear['’]s\s(?:Day|Eve)|Thanksgiving\sDay|Good\sFriday|Ash\sWednesday)\b",
            LIKELY,
        ),
        (
            rf"(?<![\d/.-])(?<!(?i:nodes?|score|scored)\s){_M}/(?:1[34789]|2[1-46-9]|31)(?![\d/%]|[.]\d|\s(?:[a-z-]+\s){{0,3}}(?i:nodes?|lns?|points?|questions|items|cores?|positive|negative|were|involved|correct)\b)",
            LIKELY,
        ),
        (r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-\d\d\b", LIKELY),
        (
            rf"(?<![\d/.-])(?=[\dMTWFS]){_WEEKDAY}{_D}(?:\s?{_TH})?(?:\s(?:day\s)?of)?[ -]?{_MONTH}(?![a-z])(?:[ ,/-]{{0,2}}(?:{_YEAR}|['’]?\d\d)\b(?![:/%.]\d))?",
            SURE,
        ),
        (
            rf"\b(?i:in|since|until|till|by|during|last|this|next|early|late|mid|from|through|before|after|around|of|end of|to|for)[ -]\K{_FULL_MONTH}",
            LIKELY,
        ),
        (rf"\b{_EVENT}(?:\s(?:on|in|from|the|of|was|is|date)|:){{0,2}}\s{{1,2}}\K{_LONE}", LIKELY),
        (r"(?<![\d/.-])0[1-9]/(?:0[1-9]|[12]\d|3[01])(?![\d/])", LIKELY),
        (r"(?<![\d/.-])(?:[1-9]|1[0-2])/0[1-9](?![\d/])", LIKELY),
        (rf"(?<![\d/.-]){_M}/(?:1[1-9]|2\d|3[01])\s?(?:-|–|to|through|thru)\s?{_M}/{_D}(?![\d/])", LIKELY),
        (
            r"\b(?i:on|until|by|since|from|before|after|about|around)\s\K(?:the\s)(?:1[3-9]|2\d|3[01])(?:st|nd|rd|th)\b(?!\s(?i:days?|weeks?|percentile|centile|rib|birthday|gestational|pod|hospital))",
            LIKELY,
        ),
        (
            r"\b(?i:on|since|after|before|around|at|by|over|last|this|until|near)\s(?i:the\s)?\K(?:Christmas(?:\s(?:Day|Eve))?|Thanksgiving|Halloween|Easter"
            r"|New\sYear['’]?s?(?:\s(?:Day|Eve))?|Labor\sDay|Memorial\sDay|Independence\sDay|(?:Fourth|4th)\sof\sJuly"
            r"|Valentine['’]s\sDay|Mother['’]s\sDay|Father['’]s\sDay|Boxing\sDay|[Xx]mas)\b(?!\s(?:disease|tree|factor))",
            LIKELY,
        ),
    ),
    "age": (
        (
            rf"(?<![\d./-]){_NINETIES}(?:\s?-?\s?(?i:years?|yrs?|yr)\.?\s?-?\s?(?i:old|of\sage|olds?)|\s?-?(?i:y[/.]?o\b\.?|yo[fm]?\b|y\.o\.))",
            SURE,
        ),
        (
            rf"\b(?i:aged?|age\sof|turn(?:ed|s|ing)|is\snow|ages)(?:\s?[:=]|\sis)?\s{{1,2}}\K{_NINETIES}{_NO_MEASURE}",
            SURE,
        ),
        (rf"\b(?i:age):{_NINETIES}{_NO_MEASURE}", SURE),
        (rf"\b{_PERSON}\s(?:is|was|who\sis|now|turns)\s(?:now\s|almost\s|nearly\s)?\K{_NINETIES}{_NO_MEASURE}", LIKELY),
        (
            r"\b(?i:lived\s(?:to|until)|died\sat|age|aged)\s(?i:be\s)?\K(?i:ninety|one\shundred)(?:[ -](?i:one|two|three|four|five|six|seven|eight|nine))?\b",
            LIKELY,
        ),
        (
            rf"\b(?i:died|passed(?:\saway)?|deceased|lived|until|dying)\s(?i:at|to|to\sbe|age)\s(?i:the\sage\sof\s|age\s)?\K{_NINETIES}{_NO_MEASURE}",
            LIKELY,
        ),
        (rf"\b(?i:his|her|their|the)\s{_NINETIES}(?:st|nd|rd|th)\s(?i:birthday|year)", SURE),
        (r"\b(?i:his|her|their)\s(?i:early|mid|late)?[ -]{0,2}\K(?:90['’]?s|(?i:nineties)|100['’]?s)\b", SURE),
        (
            r"\b(?i:ninety|(?:one\s)?hundred)(?:[ -](?i:and\s)?(?i:one|two|three|four|five|six|seven|eight|nine|ten))?[ -](?i:years?)[ -](?i:old|of\sage)\b",
            SURE,
        ),
        (r"\b(?i:centenarian|nonagenarian)\b", LIKELY),
        (
            rf"(?<![\d./-])\b{_NINETIES}\s?[MF]\b(?=\s(?:with|w/|who|pt|presents|presenting|c/o|s/p|h/o|admitted|from))",
            LIKELY,
        ),
        (rf"(?<![\d./-])\b{_NINETIES}[ -](?:male|female|man|woman|lady|gentleman)\b", LIKELY),
    ),
    "fax": ((rf"\b(?i:fax(?:ed)?|facsimile|f:)[^\d\n+(]{{0,24}}?\K{_ANY_PHONE}", SURE),),
    "phone": (
        (rf"(?<![\d.+-])(?<!\d[ /]){_NANP}{_EXT}", LIKELY),
        (rf"(?<![\d.+-]){_ABROAD}", LIKELY),
        (rf"(?<![\d.+-]){_BRITISH}", WEAK),
        (rf"{_PHONE_LABEL}\K(?<!\d){_ANY_PHONE}", SURE),
        (r"(?<![\d.-])555-\d{4}\b", LIKELY),
        (
            r"\b(?i:pager|beeper|bleep|voicemail|extension|ext\.?|vocera|spectralink)(?:[ \t]{0,2}(?i:number|no\.?|\#|:|is|at)){0,2}(?:[ \t]{0,2}|(?<=:)[ ]?\n[ ]{0,3})\K(?<!\d)\d{3,7}(?!\d|[-.]\d)",
            SURE,
        ),
        (r"\b1-8(?:00|33|44|55|66|77|88)-[A-Z\d]{3}-?[A-Z\d]{4}\b", SURE),
    ),
    "e-mail": (
        (r"(?<![\w.+-])[\w.+%'-]{1,64}@[A-Za-z\d](?:[A-Za-z\d-]{0,62}\.){1,6}[A-Za-z]{2,24}\b", SURE),
        (
            r"(?<![\w.+-])[\w.+-]{1,64}\s?[\[(]\s?at\s?[\])]\s?[A-Za-z\d-]{1,62}\s?(?:\.|[\[(]\s?dot\s?[\])])\s?[A-Za-z]{2,12}\b",
            SURE,
        ),
        (rf"(?<![\w.+-])[\w.+-]{{1,64}}\s(?:at|AT)\s[A-Za-z\d-]{{1,62}}\s(?:dot|DOT)\s{_DOMAIN}\b", SURE),
    ),
    "SSN": (
        (r"(?<![\d.-])\d{3}([ -])\d{2}\1\d{4}(?![\d-]|[.]\d)", LIKELY),
        (
            _labelled(
                r"ssn|s\.s\.n\.|ss\#|social(?: security)?(?: number| no\.?)?",
                r"(?:\d{3}[ .-]?\d{2}[ .-]?\d{4}|[xX*]{3}-?[xX*]{2}-?\d{4}|\d{4})\b",
                below=False,
            ),
            SURE,
        ),
        (_labelled(r"ssn|s\.s\.n\.|ss\#|social security(?: number| no\.?)?", r"\d{3}[ .-]?\d{2}[ .-]?\d{4}\b"), SURE),
        (r"(?<![\w*-])[xX*]{3}-[xX*]{2}-\d{4}\b", SURE),
    ),
    "record": (
        (
            _labelled(
                r"mrns?|m\.r\.n\.|mr\s?\#|med(?:ical)?\.? rec(?:ord)?s?\.?|health record|hosp(?:ital)?|chart|unit|nhs|chi|urn|patient|pt",
                needs=_NUMBERED,
            ),
            SURE,
        ),
        (_labelled(r"mrns?|m\.r\.n\.|mr ?\#|nhs number"), SURE),
        (_labelled(r"medical record", below=False), SURE),
    ),
    "health plan": (
        (
            _labelled(
                r"member(?:ship)?|subscriber|policy(?:holder)?|insurance|beneficiary|medicare|medicaid|medi-cal|tricare|group|plan|payer|hicn?|mbi|health card|bcbs|aetna|cigna|humana|kaiser|unitedhealthcare|blue cross(?: blue shield)?|anthem|ohip|insured",
                needs=_NUMBERED,
            ),
            SURE,
        ),
        (_labelled(r"member id|subscriber id|policy number|mbi|hicn|medicare id|medicaid id"), SURE),
        (
            _labelled(
                r"medicaid|medicare|molina|rx ?(?:group|bin|pcn|grp)",
                r"(?:[A-Z]{1,4}-?\d{2,14}|\d{6,12})(?:[ -]\d{2,6}){0,3}[A-Z]?\b",
                below=False,
            ),
            SURE,
        ),
        (
            r"\b(?:Aetna|Cigna|Humana|Kaiser|United ?Healthcare|UHC|Blue Cross(?: Blue Shield)?|BCBS|Anthem|Tricare|TRICARE)\b[ \#:]{0,3}(?:[A-Z]{1,4}-?\d{2,14}|\d{6,12})(?:[ -]\d{2,6}){0,3}[A-Z]?\b",
            SURE,
        ),
        (r"\b\d{3}-?\d{2}-?\d{4}-?[A-Z]\d?\b", WEAK),  # a Medicare number of before 2018
    ),
    "account": (
        (
            _labelled(
                r"accounts?|acct|acc|a/c|patient acct|bank|routing|billing|guarantor|invoice|statement|checking|savings|sort|iban|card|visa|mastercard|amex|credit card|debit card|fin",
                needs=_NUMBERED,
            ),
            SURE,
        ),
        (
            _labelled(
                r"account number|(?:bank|checking|savings|current) account|acct\.?|iban",
                r"(?:\d[\d -]{4,22}\d|[A-Z]{2}\d{2}(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,3})?|[A-Z]{0,4}-?\d{4,16})\b",
            ),
            SURE,
        ),
        (
            r"\b(?i:card|visa|mastercard|amex|account|acct)\b[^\d\n]{0,20}\b(?i:ending|ends|last four|last 4)\b(?:\s(?:in|digits|are|:)){0,2}\s\K\d{4}\b",
            SURE,
        ),
    ),
    "licence": (
        (
            _labelled(
                r"(?:medical |nursing |state |pharmacy |driver['’]?s? |drivers |driving |professional |rn )?licen[sc]e|lic|certificate|certification|cert|npi|dea|upin|gmc|nmc|clia|passport|registration|credential|permit",
                _VALUE,
                needs=_COUNTED,
            ),
            SURE,
        ),
        (_labelled(r"npi|dea(?: number)?|upin|gmc"), SURE),
        (_labelled(r"driver['’]?s? licen[sc]e|passport|medical licen[sc]e|licen[sc]e(?= ?:)", below=False), SURE),
        (r"\b(?i:licen[sc]e)[ ]\K[A-Z]{1,3}[- ]?[A-Z]{0,3}\d{4,10}\b", SURE),
        (r"\bDL(?: ?\#| ?:| no\.?| number)[ ]{0,2}\K" + _VALUE, SURE),
    ),
    "vehicle": (
        (
            r"\b(?i:plates?)[ ]\K(?:[A-Z]{2,3}[ -]?\d{3,4}[A-Z]{0,2}|\d{1,3}[ -]?[A-Z]{3}[ -]?\d{0,3}|[A-Z]{2}\d{2}[ ]?[A-Z]{3})\b",
            LIKELY,
        ),
        (_labelled(r"vin|vehicle identification|vehicle id|chassis", r"[A-HJ-NPR-Za-hj-npr-z\d]{11,17}\b"), SURE),
        (
            r"\b(?=[A-HJ-NPR-Z\d]{0,15}\d[A-HJ-NPR-Z\d]{0,15}[A-HJ-NPR-Z])(?=(?:\d{0,16}[A-HJ-NPR-Z]){3})[A-HJ-NPR-Z\d]{11}\d{6}\b",
            LIKELY,
        ),
        (
            r"\b(?i:licen[sc]e\splates?|number\splates?|plates?(?=\s(?:number|no|\#)|:)|vehicle\sreg(?:istration)?|registration\splates?|car\sreg(?:istration)?|license\stag|tags?(?=\s(?:number|no|\#)|:))"
            r"(?:[ ]{0,2}(?i:number|no\.?|\#|:|is|was|reads?|reading|of|,|\()){0,3}[ ]{0,2}(?:[A-Z][a-z]+[ ])?\K(?=[A-Z -]{0,7}\d)[A-Z\d]{1,8}(?:[ -][A-Z\d]{1,5}){0,2}\b",
            SURE,
        ),
    ),
    "device": (
        (
            _labelled(
                r"serials?|s/n|s\.n\.|udi|udi-di|device(?: id(?:entifier)?)?|implant(?: id)?|imei|mac(?: address)?|ser",
                _CODE,
                needs=_NUMBERED,
            ),
            SURE,
        ),
        (_labelled(r"serial (?:number|no\.?)|s/n|imei|device id(?:entifier)?|serial", _CODE), SURE),
        (r"\(01\)\d{14}(?:\(\d{2,3}\)[A-Za-z\d./-]{1,20}){0,5}", SURE),
        (r"\b(?i:sn)[:\#][ ]?\K" + _CODE, SURE),
        (r"\bSN[ ]\K[A-Z]{1,5}-?\d{4,12}[A-Z]{0,2}\b", SURE),
    ),
    "URL": (
        (r"\b(?i:https?|ftp|sftp|file)://[^\s<>\"'“”]{0,2000}[^\s<>\"'“”.,;:!?)\]]", SURE),
        (
            r"(?<![\w@.])(?i:www)\.[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}(?:/[^\s<>\"'“”]{0,500}[^\s<>\"'“”.,;:!?)\]]|/)?",
            SURE,
        ),
        (
            rf"(?<![\w@./-])(?:[A-Za-z\d][A-Za-z\d-]{{0,62}}\.){{1,4}}{_DOMAIN}\b(?![\w@])(?:/[^\s<>\"'“”]{{0,500}}[^\s<>\"'“”.,;:!?)\]]|/)?",
            LIKELY,
        ),
    ),
    "IP": (),  # Presidio's own recogniser
    "other number": (
        (
            _labelled(
                r"accession|orders?|specimen|case|claim|requisition|req|encounter|visit|csn|job|document|doc|dictation|report|ref(?:erence)?|confirmation|conf|prescription|rx|referral|prior auth(?:orization)?|auth(?:orization)?|tracking|sample|study|exam|film|slide|employee|badge|student|inmate|ticket|incident|donor|subject|enrol(?:l)?ment|registry|barcode|wristband|transcription|transaction|file|voucher|receipt|tax|record",
                needs=_COUNTED,
            ),
            LIKELY,
        ),
        (_labelled(r"confirmation code", r"[A-Z\d]{5,12}\b", below=False), LIKELY),
        (
            _labelled(
                r"accession|csn|badge|tracking|claim|prior auth(?:orization)?",
                r"\#?[A-Z]{0,4}-?\d[\dA-Z-]{3,18}\b",
                below=False,
            ),
            LIKELY,
        ),
        (r"\b[A-Z]{1,3}\d{2}-\d{3,7}\b", LIKELY),  # a pathology accession: S21-04417
        (r"\b[\da-fA-F]{8}-(?:[\da-fA-F]{4}-){3}[\da-fA-F]{12}\b", SURE),
    ),
    "address": (
        (
            rf"(?<![\d./$-])\b\d{{1,6}}[A-Z]?[ ](?:(?:[NSEW]|NE|NW|SE|SW)\.?[ ]|(?:North|South|East|West)[ ])?"
            rf"(?:(?:[A-Z][\w'’-]{{0,20}}\.?|\d{{1,3}}(?:st|nd|rd|th))[ ]){{1,4}}?{_STREET}\b\.?(?![a-z])(?:[ ](?:[NSEW]|NE|NW|SE|SW)\b)?{_UNIT}",
            SURE,
        ),
        (r"\b(?i:p\.?\s?o\.?\s?box|post\soffice\sbox)\s\#?\d{1,7}\b", SURE),
        (
            r"\b(?:Highway|Hwy|Route|Rural Route|RR|County Road|CR|State Road)[ ]\#?\d{1,4}[ ,]{1,2}(?:Box|Lot)[ ]\#?\d{1,5}\b",
            SURE,
        ),
        (r"\b(?:Apartment|Apt)\.?[ ]?\#?[ ]?(?=[A-Z-]?\d|[A-Z]\b)[A-Z]?-?\d{0,5}[A-Z]?\b", LIKELY),
        (
            rf"\b(?i:address|addr|lives (?:at|on)|residing at|resides at)[:,]?[ ](?i:at[ ])?\K\d{{0,6}}[ ]?(?:[A-Z][\w'’-]{{1,20}}[ ]){{1,3}}{_STREET}\b",
            SURE,
        ),
    ),
    "place": (
        (
            rf"\b(?=[A-Z][a-z])(?!{_COUNTRY}\b)(?!{_STATE_NAME}\b){_CITY},?[ ]{_ANY_STATE},?[ ]\d{{5}}(?:-\d{{4}})?\b",
            SURE,
        ),
        (rf"\b(?=[A-Z][a-z])(?!{_COUNTRY}\b){_CITY},[ ]{_STATE}\b", LIKELY),
        (rf"\b(?=[A-Z][a-z])(?!{_COUNTRY}\b)(?!{_STATE_NAME},){_CITY}(?=,[ ]{_STATE_NAME}\b)", LIKELY),
        (rf"\b{_ANY_STATE}[ ,]{{1,2}}\K\d{{5}}(?:-\d{{4}})?(?![\d-])", SURE),
        (rf"\b{_STATE_NAME}[ ,]{{1,2}}\K\d{{5}}(?:-\d{{4}})?(?![\d-])", SURE),
        (
            r"\b(?i:zip(?:\s?code)?|postal\scode|postcode|post\scode)(?:\s(?:is|of)|:|\s\#)?\s{0,2}\K(?:\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}|[A-Z]\d[A-Z]\s?\d[A-Z]\d)\b",
            SURE,
        ),
        (rf"\b(?:{_WORD}[ ]){{1,2}}[A-Z]{{1,2}}\d[A-Z\d]?[ ]\d[ABD-HJLNP-UW-Z]{{2}}\b", LIKELY),
        (rf"\b(?i:in|from|to|near|of|at|outside)[ ]\K(?!{_COUNTRY}\b){_CITY},[ ]{_ANY_STATE}\b", LIKELY),
        (
            rf"\b[fF]rom[ ]\K(?!{_COUNTRY}\b)(?!{_STATE_NAME}\b)(?!{_FULL_MONTH}){_CITY}(?=[ ](?:originally|by[ ](?:ambulance|car|helicopter|air|bus)))",
            LIKELY,
        ),
        (
            rf"\d[ ](?:[A-Z][\w.]{{0,20}}[ ]){{1,3}}{_STREET}\b\.?{_UNIT},[ ]{{1,2}}\K(?!{_COUNTRY}\b)(?!{_STATE_NAME}\b){_CITY}",
            LIKELY,
        ),
        (r"\b[A-Z]{1,2}\d[A-Z\d]?[ ]\d[ABD-HJLNP-UW-Z]{2}\b", WEAK),
        (r"\b[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z][ ]\d[ABCEGHJ-NPRSTV-Z]\d\b", WEAK),
        (
            rf"\b{_LIVES}(?:[ ][a-z'’-]{{1,14}}){{0,4}}?"
            rf"[ ](?:in|from|to|near|outside)[ ](?:downtown[ ]|rural[ ]|suburban[ ])?\K(?!{_COUNTRY}\b)(?!{_STATE_NAME}\b)(?!{_FULL_MONTH}){_CITY}(?![ ]?\d)",
            LIKELY,
        ),
        (
            rf"\b(?i:born|raised|originally|native|resident|hails|is|comes)[ ](?:of|from)[ ]\K(?!{_COUNTRY}\b)(?!{_STATE_NAME}\b)(?!{_FULL_MONTH}){_CITY}",
            LIKELY,
        ),
        (rf"\b(?=[A-Z][a-z])(?!{_COUNTRY}\b)(?:{_WORD}[ ]){{1,2}}(?:County|Township|Parish|Borough)\b", LIKELY),
        (
            rf"\b(?=[A-Z][a-z])(?=[^,;:\n]{{0,60}}\b{_FACILITY})(?<![A-Z][a-z]{{1,20}}[ ]){_NO_HOUSE}(?:(?:St|Mt)\.?[ ])?(?:{_WORD}(?:['’]s)?[ ]){{1,3}}{_FACILITY}\b",
            LIKELY,
        ),
    ),
}
