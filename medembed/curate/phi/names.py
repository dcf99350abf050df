"""Patterns for names of people, by what stands around them: a title, a label, a relation, a credential, a signature, a given name.

No word is a name by its looks alone, because notes are full of capitalised words and of eponyms (Crohn, Foley, Babinski). A model for
names, where the recipe gives one, finds more.
"""

import re

from medembed.curate.phi.vocabulary import phrases, words

SURE, LIKELY = 0.9, 0.7

_CORE = r"(?:(?:Mc|Mac|O['’]|D['’]|De|Di|Du|Le|La|Van|Von|St\.\s)?[A-ZÀ-Þ][a-zß-ÿ]{1,20})"
_WORD = rf"(?:{_CORE}(?:[-–]{_CORE})?)(?![a-zA-Z])"
_INITIAL = r"(?:[A-Z]\.(?:[ ]?[A-Z]\.)?)"
_PARTICLE = r"(?:(?:de\sla|de\slos|de|del|della|van\sder|van\sden|van|von|da|dos|bin|ibn|al|el|la|le|ter)\s)?"
_REST = rf"(?:[ ](?:{_INITIAL}|[A-Z](?=[ ][A-Z][a-z]))){{0,2}}(?:[ ]{_PARTICLE}{_WORD}){{0,3}}(?:,?[ ](?:Jr|Sr|II|III|IV)\b\.?)?"
_NAME = rf"(?:{_WORD}{_REST}|{_INITIAL}[ ]?{_PARTICLE}{_WORD}(?:[ ]{_WORD})?)"
_FULL = rf"(?:{_WORD}(?:[ ]{_INITIAL}|[ ][A-Z](?=[ ]))?(?:[ ]{_PARTICLE}{_WORD}){{1,2}}(?:,?[ ](?:Jr|Sr|II|III|IV)\b\.?)?|{_INITIAL}[ ]?{_WORD})"
_CAPS = r"[A-ZÀ-Þ][A-ZÀ-Þ'’-]{1,20}"
_TURNED = rf"(?:{_WORD},[ ]{_WORD}(?:[ ]{_INITIAL}|[ ][A-Z]\b)?|{_CAPS},[ ]?{_CAPS}(?:[ ][A-Z]\b\.?|[ ]{_CAPS})?|{_CAPS}[ ](?:[A-Z]\.?[ ])?{_CAPS})"
_BELOW = rf"(?:{_WORD},[ ]{_WORD}(?:[ ]{_INITIAL}|[ ][A-Z]\b)?|{_CAPS},[ ]?{_CAPS}(?:[ ][A-Z]\b\.?)?)"  # not `CHIEF COMPLAINT`
_TITLE = r"(?:(?:Mr|Mrs|Ms|Mx|Dr|Drs|Prof|MR|MRS|MS|DR|mr|mrs|ms|dr)\b\.?|Miss|Doctor|Professor|Nurse|Sister|Reverend|Rev\.?|Pastor|Rabbi|Imam|Officer|Deputy|Sergeant|Sgt\.?|Captain|Detective)"
_CREDENTIAL = (
    r"(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|N\.?P\.?|PA-?C?|Ph\.?D\.?|FNP(?:-[A-Z]{1,3})?|ARNP|APRN|DNP|CNM|CNS|LPN|LVN|CRNA|DDS|DMD|DPM|DPT|PT|"
    r"OTR?/?L?|Pharm\.?D\.?|PsyD|LCSW|MSW|LMFT|RDN?|SLP|CCC|CMA|MA|MBBS|FRCS|FACS|FACC|RT|Esq)"
)
_KIN = (
    r"(?:daughter|son|wife|husband|mother|father|mom|dad|mum|sister|brother|partner|niece|nephew|aunt|uncle|grandmother|grandfather|"
    r"granddaughter|grandson|friend|neighbou?r|caregiver|carer|caretaker|spouse|fianc[ée]e?|roommate|boyfriend|girlfriend|cousin|"
    r"sister-in-law|brother-in-law|mother-in-law|father-in-law|daughter-in-law|son-in-law|stepson|stepdaughter|stepmother|stepfather|"
    r"twin|baby|guardian|landlord|coworker|colleague|employer|boss|teacher|coach|aide|interpreter|case manager|social worker|"
    r"therapist|counsel+or|pharmacist|nurse|physician|doctor|surgeon|cardiologist|neurologist|oncologist|dentist|psychiatrist|midwife|"
    r"dog|cat)"
)
# After these a name is all that can follow.
_LABEL = (
    r"(?:patient(?:['’]s)?(?:[ ]name)?|pt(?:[ ]name)?|name|full name|last name|first name|surname|maiden name|given name|attending(?:[ ](?:physician|surgeon|provider))?|"
    r"(?:co-?|assistant[ ]|primary[ ]|first[ ])?surgeons?|(?:first[ ])?assistants?|an(?:a?)esthesi(?:ologist|a[ ]provider)|anaesthetist|crna|"
    r"referring(?:[ ](?:physician|provider|md))?|referred by|refer to|pcp|gp|primary care(?:[ ](?:physician|provider|doctor))?|provider|"
    r"physician|consultant|consulting(?:[ ]physician)?|author|authored by|dictated(?:[ ]by)?|dictator|transcribed by|transcriptionist|"
    r"(?:electronically[ ]|e-)?signed(?:[ ]by)?|signature|verified by|reviewed by|approved by|ordered by|ordering(?:[ ](?:physician|provider))?|"
    r"reported by|interpreted by|performed by|operator|seen by|examined by|prepared by|completed by|entered by|scribe|scribed by|witness(?:ed by)?|"
    r"emergency contact|next of kin|nok|guarantor|guardian|contact(?:[ ]person)?|poa|health care proxy|healthcare proxy|proxy|legal representative|informant|"
    r"historian|accompanied by|interpreter|case manager|social worker|radiologist|pathologist|cardiologist|technologist|nurse|rn|resident|"
    r"intern|fellow|scrub|circulator|perfusionist|subscriber|policy ?holder|insured|responsible party|attn|attention|to|from|re|cc|bcc|regarding|employee|"
    r"patient of|caregiver|carer|caretaker|aide|therapist|counsel+or|pharmacist|dietitian|midwife|coordinator|escort|driver|employer|spouse|husband|wife|mother|father|daughter|son|brother|sister|partner|parent)"
)
_AGE = r"(?:\d{1,3}|[a-z]{3,8}(?:-[a-z]{3,6})?)[ -]{0,2}(?:years?|y\.?/?o|yr|months?|mo|weeks?|wk|days?)\b"

_GIVEN = rf"(?:{'|'.join(sorted(words('given')))})(?![a-zA-Z])"

PATTERNS: tuple[tuple[str, float], ...] = (
    (rf"\b{_TITLE}[ ]{{1,2}}\K(?:{_NAME}|{_CAPS}(?=[\s,.;]))", SURE),
    (rf"\b(?:Mr|Mrs|Ms|Mx|Drs?|Prof)\.[ ]?\n[ ]{{0,4}}\K{_NAME}", SURE),
    (rf"\bDrs\.?[ ]{_WORD}(?:,[ ]{_WORD}){{0,3}},?[ ]and[ ]\K{_WORD}", SURE),
    (rf"\b(?:Mr|Dr)\.?[ ](?:and|&)[ ](?:Mrs|Ms|Dr)\.?[ ]\K{_NAME}", SURE),
    (rf"(?<![A-Za-z])(?i:{_LABEL})(?:[ ]?[:#]|[ ]is)[ ]{{0,4}}(?:{_TITLE}[ ])?\K(?:{_TURNED}|{_FULL})", SURE),
    (rf"(?<![A-Za-z])(?i:(?:patient(?:['’]s)?[ ]|pt[ ]|full[ ]|last[ ]|first[ ]|sur|maiden[ ]|given[ ])?name)(?:[ ]?:|[ ]is)[ ]{{0,4}}\K(?:{_NAME}|{_CAPS}(?![A-Za-z]))", SURE),
    (rf"(?<![A-Za-z])(?i:{_LABEL})[ ]?:[ ]?\n[ ]{{0,4}}(?:{_TITLE}[ ])?\K(?:{_BELOW}|{_FULL})(?=[ ]{{0,3}}(?:$|,))", SURE),
    (rf"(?<![A-Za-z])(?i:(?:patient|pt)(?:['’]s)?(?:[ ]name)?|(?:full|last|first|maiden|given)[ ]name|surname)[ ]?:[ ]?\n[ ]{{0,4}}\K(?:{_BELOW}|{_FULL})", SURE),
    (rf"(?<![A-Za-z])(?i:(?:(?:patient(?:['’]s)?|pt|full|last|first|maiden|given)[ ]|sur)name)[ ]?:[ ]?\n[ ]{{0,4}}\K{_NAME}(?=[ ]{{0,3}}$)", SURE),
    (rf"(?<![A-Za-z])(?i:dictated|transcribed|signed|reviewed|verified|approved|seen|examined|performed|ordered|interpreted|accompanied|written|prepared|staffed|referred|evaluated)"
     rf"[ ](?i:by|with)[ ](?:{_TITLE}[ ])?\K(?:{_FULL}|{_CAPS},[ ]{_CAPS}|{_CAPS}[ ]{_CAPS}\b)", LIKELY),
    (rf"\b(?i:spoke|spoken|discussed|talked|consulted|met|conferred|communicated|call(?:ed)?|paged|contact(?:ed)?|notif(?:y|ied)|inform(?:ed)?|thank you|thanks|per|via|ask(?:ed)?|hi|hello|dear|by|with|to)"
     rf"(?:[ ](?:with|to|from|by))?,?[ ]\K{_FULL}(?=,?[ ](?:{_CREDENTIAL}\b|at\b|of\b|in\b|from\b|who\b|about\b|regarding\b|on\b|for\b)|[.,;)])", LIKELY),
    (rf"\b{_FULL}(?=,?[ ]{{1,2}}{_CREDENTIAL}(?![A-Za-z]))", SURE),
    (rf"\b{_WORD}(?=,[ ]{_CREDENTIAL}(?![A-Za-z]))", LIKELY),
    (rf"\b{_CAPS}[ ](?:[A-Z]\.?[ ])?{_CAPS}(?=,[ ](?:M\.?D|D\.?O|R\.?N|N\.?P|Ph\.?D|PA-C)\b)", SURE),
    (rf"\b(?i:{_KIN})(?:,|[ ](?i:is|was|named|called|name|\())?[ ]?\(?(?<=[ (])(?:{_TITLE}[ ])?\K(?!{_TITLE}){_WORD}(?:[ ]{_WORD}){{0,2}}", LIKELY),
    (rf"\b(?i:{_KIN})['’]s[ ]name[ ]is[ ]\K{_NAME}", SURE),
    (rf"\b(?:named|nicknamed|(?:is|be|was|being)[ ]called|[Gg]oes[ ]by|a\.?k\.?a\.?|prefers|n[ée]e|formerly|introduced[ ](?:him|her)self[ ]as)[ ][\"“']?\K{_NAME}", LIKELY),
    (rf"(?:^|[.!?][ ]{{1,2}}|\n|:[ ])\K{_WORD}(?:[ ]{_INITIAL})?[ ]{_PARTICLE}{_WORD}(?=(?:,|[ ]is|[ ]was|[ ]\()[ ]?(?:an?[ ])?(?:[a-z-]{{3,20}}[, ]{{1,2}}){{0,4}}{_AGE})", SURE),
    (rf"(?:^|[.!?][ ]{{1,2}}|\n|:[ ])\K{_WORD}(?=(?:,|[ ]is|[ ]was)[ ]an?[ ](?:[a-z-]{{3,20}}[, ]{{1,2}}){{0,4}}{_AGE})", LIKELY),
    (rf"(?:/s/|(?i:sincerely|regards|respectfully|cordially|yours truly|best wishes)[^\n]{{0,24}},)\s{{0,6}}\K(?:{_NAME}|{_CAPS}[ ]{_CAPS})", SURE),
    (rf"(?:\b(?i:sincerely|regards)[,.]?\s{{1,6}}|_{{4,60}}\s{{0,6}})\K{_FULL}", LIKELY),
    (rf"(?:^|[.!?][ ]{{1,2}}|\n|:[ ])\K{_FULL}(?=,[ ]\d{{1,3}},?[ ])", SURE),
    (rf"\b(?i:thank[ ]you|thanks|dear|hi|hello),?[ ]\K{_WORD}(?=[.,!\n])", LIKELY),
    (rf"(?:^|[.!?:][ ]{{1,2}}|\n)\K{_WORD}(?=[ ](?:says|states|reports|denies|tells|feels|endorses|admits|recalls|understands|complains|agrees|lives|prefers)\b)", LIKELY),
    (rf"\b{_GIVEN}(?:[ ]{_INITIAL}|[ ][A-Z](?=[ ]))?[ ]{_PARTICLE}{_WORD}(?:[ ]{_WORD})?", LIKELY),
    (rf"\b{_WORD},[ ]{_GIVEN}\b(?:[ ][A-Z]\b\.?)?", LIKELY),
    (rf"(?:(?<=\b[a-z]{{1,15}}[,;]?[ ])|(?<=\()){_GIVEN}(?=[ ](?:is|was|has|had|will|can|says?|said|states?|stated|reports?|reported|denies|denied|tells|told|feels|felt|and|agreed|agrees|understands|lives|called|came|also)\b|['’]s\b|[.,;)])", LIKELY),
    (rf"(?:^|[.!?][ ]{{1,2}}|\n)\K{_GIVEN}(?=[ ](?:is|was|has|had|will|says?|said|states?|stated|reports?|reported|denies|denied|tells|told|feels|felt|agreed|agrees|understands|lives|called|came|presents|presented)\b)", LIKELY),
)  # fmt: skip


def is_name(found: str, score: float) -> bool:
    """Whether what stands where names stand is no word of medicine or of every day, nor, where a name is but likely, an eponym."""
    parts = [part.strip(".'’").lower() for part in re.split(r"[\s,–-]+", found)]
    parts = [part for part in parts if len(part) > 1]
    if not parts or words("ordinary") & {parts[0], parts[-1]} or " ".join(parts[:2]) in phrases("eponymous"):
        return False
    return score >= SURE or not words("eponyms") & set(parts)
