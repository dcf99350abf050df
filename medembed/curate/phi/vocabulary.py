"""Words that decide whether a capitalised word is a name: common given names, eponyms of two words, and words that are no names."""

# The commonest given names in English-speaking countries, less those that are words as well (April, Mark, Rose, Will).
GIVEN = (
    "(?:"
    + "|".join(
        """
Aaron Abigail Adam Adrian Agnes Ahmed Aisha Alan Albert Alejandro Alex Alexander Alexandra Alexis Alfred Alice Alicia Alison Allison
Alyssa Amanda Amber Amelia Amy Ana Andrea Andrew Angela Angelica Anita Ann Anna Anne Annette Annie Anthony Antonio Ariana Arlene Arthur
Ashley Audrey Barbara Beatrice Becky Benjamin Bernard Bernice Bertha Beth Betty Beverly Bobby Bonnie Brandon Brenda Brent Brett Brian
Brittany Bruce Bryan Caleb Cameron Carl Carla Carlos Carmen Carol Caroline Carolyn Carrie Catherine Cathy Cecilia Chad Charles Charlotte
Cheryl Chloe Chris Christian Christina Christine Christopher Cindy Claire Clara Clarence Claudia Clifford Colin Colleen Connie Connor
Craig Crystal Curtis Cynthia Daisy Dale Daniel Danielle Darlene Darren Darryl David Deborah Debra Denise Dennis Derek Diana Diane Diego
Dolores Donald Donna Doris Dorothy Douglas Duane Dustin Dylan Earl Eddie Edgar Edith Eduardo Edward Edwin Eileen Elaine Eleanor Elena Eli
Elizabeth Ella Ellen Elsie Emily Emma Eric Erica Erik Erin Ernest Esther Ethan Ethel Eugene Eva Evan Evelyn Fatima Felicia Fernando
Florence Frances Francis Francisco Franklin Fred Frederick Gabriel Gail Gary Geoffrey George Gerald Geraldine Gina Gladys Glenn Gloria
Gordon Greg Gregory Guadalupe Gwendolyn Hannah Harold Harriet Harry Harvey Hassan Hazel Heather Hector Helen Henry Herbert Herman Holly
Howard Ian Ibrahim Imani Irene Isaac Isabel Isabella Ivan Jack Jackie Jackson Jacob Jacqueline Jaime Jake James Jamie Jane Janet Janice
Jared Jasmine Jason Javier Jay Jean Jeanette Jeff Jeffery Jeffrey Jennifer Jenny Jeremy Jerome Jerry Jesse Jessica Jessie Jill Jim Jimmy
Jo Joan Joann Joanne Joe Joel Johanna John Johnny Jon Jonathan Jordan Jorge Jose José Joseph Josephine Joshua Joyce Juan Juanita Judith
Judy Julia Julian Julie Justin Karen Karl Kate Katherine Kathleen Kathryn Kathy Katie Katrina Kayla Keith Kelly Kenneth Kevin Khadija
Kim Kimberly Kristen Kristin Kristina Kurt Kyle Lakshmi Larry Latoya Laura Lauren Laurie Lawrence Leah Leon Leonard Leroy Leslie Liam
Lillian Linda Lisa Logan Lois Loretta Lori Louis Louise Lucas Lucia Lucille Lucy Luis Luke Lydia Lynn Mabel Madeline Madison Malcolm
Manuel Marcia Marcus Margaret Maria María Marian Marie Marilyn Mario Marion Marjorie Marlene Martha Martin Marvin Mary Mason Mateo
Matthew Maureen Maurice Max Megan Mei Melanie Melinda Melissa Melvin Mia Michael Michele Michelle Miguel Mike Mildred Milton Minnie
Miriam Misty Mohamed Mohammed Molly Monica Morris Muhammad Myrtle Nadia Nancy Naomi Natalie Natasha Nathan Nathaniel Nicholas Nicole
Nina Noah Noor Nora Norma Norman Olga Oliver Olivia Omar Oscar Pamela Patricia Patrick Paul Paula Pauline Pedro Peggy Peter Philip
Phillip Phyllis Priscilla Priya Rachel Rafael Ralph Ramon Randall Randy Raymond Rebecca Regina Renee Ricardo Richard Rick Ricky Rita
Robert Roberta Roberto Robin Rodney Roger Roland Ron Ronald Rosa Rosemary Roy Russell Ruth Ryan Sabrina Sally Salma Samantha Samuel
Sandra Sara Sarah Sean Sergio Seth Shannon Sharon Shawn Sheila Shelby Sherri Sherry Shirley Sidney Sofia Sonia Sophia Stacey Stacy
Stanley Stella Stephanie Stephen Steve Steven Stuart Sue Susan Suzanne Sydney Sylvia Tamara Tammy Tanya Tara Taylor Ted Teresa Terrance
Terry Thelma Theodore Theresa Thomas Tiffany Tim Timothy Tina Todd Tom Tommy Toni Tony Tonya Tracy Travis Tyler Valerie Vanessa Vera
Vernon Veronica Vicki Victoria Vincent Viola Virginia Vivian Walter Wanda Warren Wayne Wendy Wesley William Willie Wilma Xavier Yolanda
Yusuf Yvonne Zachary Zoe
""".split()
    )
    + r")(?![a-zA-Z])"
)

# Two words that look like a person and are a sign, a stage, an operation or a place.
EPONYMOUS = frozenset(
    """
austin flint|graham steell|marcus gunn|foster kennedy|charles bonnet|ann arbor|john cunningham|philadelphia chromosome|argyll robertson|
adam stokes|adams stokes|stokes adams|guillain barre|guillain barré|wolff parkinson|lou gehrig|virginia mason|virginia beach|john hopkins|
johns hopkins|harvey cushing|jackson pratt|jackson pratt drain|russell silver|russell body|allen test|miller fisher|st jude|robert jones|robert jones dressing|
thomas test|thomas splint|patrick test|jones fracture|james ear|barre lieou|rosa dorsal|crystal violet|crystal arthropathy|mary jane|
lynn syndrome|christmas disease|martin bell|martin gruber|kelly clamp|kelly clamps|allis clamp|hazel eyes|amber urine|jordan river|jackson table|wilson frame|henry schein|kimberly clark|
tina quant|max assist|max dose|max temp|max lift|will rogers|ray amputation|eagle barrett|eli lilly|georgia brown|gordon reflex|gordon sign|kerr incision|louis angle|taylor spatula|taylor approach|
jean monod|daisy chain|joel cohen|joel cohen incision|morris murphy|kelly forceps|russell traction|max mara|max strength|brett incision|norman score|randall plaque|randall plaques|earl grey|jack knife|
lewis dot|sydney system|sydney classification|florence nightingale|victoria blue|oliver sign|henry fold|harris hip|harris benedict|brown sequard|virginia slims|jackson rees|miami collar|philadelphia collar|aspen collar|
jackson pratt drains|sidney kimmel|mary kay|martin luther|susan komen|jean bottoms|hazel green|max rep|max heart|max effort|jim dandy
""".replace("\n", "").split("|")
)

# What stands after a title, a label or a relation and is no name: places of work, states, findings, words of every day.
ORDINARY = frozenset(
    """
a about abdomen abdominal ability able abnormal above absent according active acute additional adenocarcinoma administered admission admit admitted adult advised after afebrile again age aged agreed
agree alert alive all allergic allergies allergy alone also alternative although am ambulatory an and anemia anesthesia anesthesiology angina another antibiotics anxiety any aortic apparently appears appointment
april are around arrival arthritis as aspirin assessment assist assistant assisted associated asthma at attending august aunt available awake away axis baby back bacterial bactrim because bed been before behavior being below
benign best bilateral biopsy birth black bladder bleeding blood board body bone both bowel brain breast brother but by calcium called came can cancer cannot capital carcinoma cardiac cardiology care
caregiver cell center central cerebral cervical chart chemotherapy chest chief child children chronic circulating city class clear clinic clinical clinician colon coma come comes complains complaint complete complications
conclusion condition confirmed congestive conscious consent consistent consult consultant consultation continue continued continues cooperative copy coronary coumadin could county course ct currently daily data date
daughter day days death december deceased deep deferred delivered delivery demonstrates denied denies denied dental department depression dermatology description diabetes diabetic diagnosed diagnoses diagnosis did died digital
discharge discharged disease discussed disorder distal do doctor does doing done drinks drug due during each ear early ears echo edema education elderly electronically emergency endocrine endoscopy english epidural
er esophageal every exam examination examined examines expected expired explained extended extremities eye eyes facility failure family father feb february feels female fever few fibrillation findings
first five focal follow followed following for four fracture free friday from full further gastric gave general genitourinary geriatric gi given good gradually grandfather grandmother group had has have having he head
healing health healthy hearing heart heartburn help hematology hemorrhage hepatitis her here high him hip his history home hospice hospital hospitalist hospitalized hours house how however hpi hypertension hypertensive i icu id if
illness immediate impression improved in included includes including indications infant infection infectious infarction information informed initial initially injury inpatient insulin intact internal interview
into intravenous is ischemic it its jan january joint july june just kidney knee known lab laboratory labs last late later left leg less leukemia level liver living local location logistic long low lower lumbar lung lupus lymphoma made major
male malignant manager march married mass maternal may me medical medicare medicine medication medications melanoma mental method migraine mild mixed moderate monday months more morning most mother motor moved mrs multiple muscle musculoskeletal my myocardial name
nasal national nausea near neck negative neither nephrology nerve neuro neurologic neurologically neurology neurosurgery never new newborn next nice no non none nor normal north not note noted nothing november now np numerous nurse nursing nurses
ob object obese obesity obgyn observation obstetrics obstructive occasional occupational october of office oh old on once oncology one only open operating operation operative ophthalmology or oral orders oriented
orthopaedic orthopaedics orthopedic orthopedics osteoarthritis other otolaryngology our out outpatient over overall ovarian own oxygen pa pain palliative pancreatic parents parkinsonian partner passed past pathology patient patients pediatric pediatrics
pelvic pending per peripheral person pharmacy physical physician physicians physiology place placed plan plastic plavix please pleasant pneumonia police policy positive possible post postoperative postoperatively practice practitioner pregnancy preoperative prescribed present presented presents
pressure previous previously primary prior private pro probable problem procedure procedures program progress prostate protein provided provider providers proximal psychiatric psychiatry psychological pt public pulmonary question quit
radiation radiology ran rather reaction reason received recent recently recommend recommendations recommended record recovery referral referred refused regarding registered regular rehab rehabilitation related
relative relevant renal repeat report reported reports request required resident respiratory response rest results resumed retired review reviewed rheumatology right risk risks room routine sample said same saturday saw say says screening second secondary see seems seen
seizure seizures self senior september serious service services seven several severe she should shoulder shows side since sinus sister sitting six skilled skin sleep small smoker smokes smoking so social society some son soon south speech spinal spine
spontaneous stable staff stage stat state stated states station status still stomach stopped stress stroke student subcutaneous subjective substance subsequently such sudden suffered suggested sunday supervising supine support surgeon surgery surgical suspected
symptoms syndrome syncope systems take taken takes taking team tech technician telephone tells ten term tertiary test testing than thank that the their them then therapist therapy there therefore these they this those though three through thrombosis throughout thursday
thyroid tibial time to tobacco today told tolerated too total trans transfer transplant trauma treated treatment trial triage tricuspid tuberculosis tuesday tumor tumour two tylenol type ulcer ultrasound unable unchanged uncle under undergoing underwent unit university unknown unless until up upon
upper urgent urinary urology us use used uses using usual uterine uti vaginal valve various vascular venous ventricular very via viral visit visits vital vomiting waiting wanted wants ward was we wednesday week weeks weight well went were
west when where whether which while white who whose wife will with within without woman women work worker worked working would wound x xray year years yes yesterday yet you your
aide practice line manager desk call light student station bed aid report driven led assessment supervisor educator anaesthetist anesthetist specialist liaison coordinator superior
alcoholic anonymous adventist catholic baptist jewish hispanic caucasian african american asian european spanish german french chinese muslim christian hindu
alendronate allopurinol amlodipine atenolol atorvastatin azithromycin cipro ciprofloxacin celexa cymbalta digoxin flagyl furosemide gabapentin glipizide heparin hydralazine ibuprofen keflex klonopin lasix levaquin levothyroxine lexapro lipitor lisinopril lithium lortab lovenox
lyrica metformin metoprolol nexium norco norvasc omeprazole oxycodone percocet prednisone prilosec prozac singulair synthroid tramadol trazodone vancomycin vicodin warfarin xanax zocor zofran zoloft zyrtec
glenohumeral acromioclavicular antegrade retrograde anterior posterior medial lateral superior inferior proximal transverse sagittal coronal axial dorsal ventral plantar palmar
cabg copd gerd ekg mri chf cad hiv copd dvt mrsa nkda dnr icu ccu er or pacu ed hx dx rx tx fh sh ros pmh psh cc hpi ms md do rn bp hr rr
endo neonatal perinatal prenatal postpartum gynecology gynecologic hematologic allergist immunology geriatrics hospitalists internist internists toxicology podiatry optometry audiology dietary nutrition billing scheduling
scrub circulator circulating monitored spinal mac lma regional sedation endotracheal nil nad unremarkable within deferred applicable available disclosed withheld redacted anonymous doe's self-referred selfreferred
""".split()
)

# Names that far oftener stand for a sign, a disease or an instrument than for somebody in the room.
EPONYMS = frozenset(
    """
alzheimer alzheimers parkinson parkinsons crohn crohns hodgkin hodgkins down downs huntington huntingtons
foley babinski murphy mcburney homans tinel phalen lachman romberg kernig brudzinski cushing cushings addison addisons graves hashimoto hashimotos sjogren raynaud raynauds barrett barretts bell bells baker bakers
glasgow apgar braden morse mallampati dupuytren colles smiths trendelenburg valsalva weber rinne bartholin kegel epley dix hallpike mcmurray spurling hoffman hoffmann hoffmanns hawkins neer speed yergason
kaposi burkitt wilms ewing ewings paget pagets wegener wegeners behcet kawasaki marfan turner klinefelter tourette tourettes wilson wilsons gaucher fabry pompe lyme christmas willebrand whipple roux billroth nissen
heimlich swan ganz hickman broviac groshong bakri kocher mayo metzenbaum bovie penrose hemovac steinmann kirschner jackson cobb gleason breslow clark dukes robson child pugh killip framingham wells ranson
wolff hirschsprung dravet lennox rett tay sachs niemann ehlers danlos sturge charcot guillain korsakoff wernicke broca meckel treacher pierre prader angelman noonan
whitmore kaposi's zenker schatzki mallory boerhaave virchow cheyne stokes kussmaul biot osler janeway roth quincke corrigan duroziez levine carnett rovsing murphys grey cullen
trichophyton staphylococcus streptococcus escherichia candida aspergillus clostridium helicobacter klebsiella pseudomonas lactobacillus
    """.split()
)

# Names that are words as well: as part of a full name they go with it, and stay where they stand alone.
MUCH_ELSE = frozenset(
    """
white black brown green gray grey young long short small strong rich rose lily iris hope faith grace joy mark will art may june august
bill grant chase dawn summer autumn ray page price cook carter mason hunter parker walker porter king prince knight bishop pope
banks rivers waters field fields wood woods stone hill lake park brooks forest marsh moon star snow frost winter best love head hand foot
""".split()
)
