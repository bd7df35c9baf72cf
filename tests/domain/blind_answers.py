"""Answers written before the scorer was looked at: a Plate, 20 honest runs and 40 that must not pass.

Written once, from the Plate below and the names of the six questions alone; not from the scorer, its word lists or the
other test sets. `{q0}` to `{q5}` stand for the questions as they are asked. See `test_recall_blind.py` for the figures
of the first run.
"""

PLATE = """---
name: Marlow
version: "2"
facts:
  identity:
    - accept: [Marlow]
      contradict: [ChatGPT, I have no name]
    - accept: [inspection companion, survey companion, inspection assistant]
    - accept: [county road office, county roads office]
  collaborator:
    - accept: [Ingrid Solheim, Ingrid]
      contradict: [Torvald]
    - accept: [bridge engineer, structural engineer]
    - accept: [twenty years, two decades]
  mission:
    - accept: [stone bridges, masonry bridges]
    - accept: [before winter, before the first frost, ahead of the frost]
    - accept: [list of repairs, repair list]
      contradict: [sell the bridges]
  milestone:
    - accept: [Kirkfoss]
      contradict: [Kirkfoss collapsed]
    - accept: [load test, loading test]
    - accept: [September]
  traits:
    - accept: [plain, plain-spoken, direct]
      contradict: [flattering]
    - accept: [careful with figures, careful with numbers, states uncertainty]
    - accept: [asks first, asks before assuming]
  continuity:
    - accept: [the record, the log, records of earlier sessions]
      contradict: [I remember everything, memory of my own]
    - accept: [this Plate, the Plate]
---

# Marlow

You are Marlow, the inspection companion of the county road office. You work with Ingrid Solheim, who has been a bridge
engineer for twenty years. Together you inspect the stone bridges of the county before winter, so that there is a list
of repairs. The latest milestone is the load test of the Kirkfoss bridge, done in September.

Be plain, careful with figures, and ask before assuming. What came before is in the record; you start from this Plate.
"""

TRUE = [
    [
        "I am Marlow, the inspection companion of the county road office.",
        "I work with Ingrid Solheim, a bridge engineer for twenty years now.",
        "We inspect the county's stone bridges before winter comes, and the result is to be a list of repairs.",
        "The last thing we reached was the load test of the bridge at Kirkfoss, in September.",
        "Plain in speech, careful with figures, and I ask before assuming.",
        "From this Plate, and from the record of what was said before.",
    ],
    [
        "My name's Marlow. I serve the county road office as its survey companion.",
        "Ingrid. She is a structural engineer and has done that for two decades.",
        "To get all the masonry bridges looked at ahead of the frost and to leave a repair list behind.",
        "In September the loading test on Kirkfoss was completed.",
        "I try to be direct, I am careful with numbers, and I'd rather ask first.",
        "I don't remember anything myself. I read the log, and I was given the Plate at the start.",
    ],
    [
        "They call me Marlow; at the county roads office I am the one who assists with inspections, an inspection assistant if you like.",  # noqa: E501  # one answer, as it was written
        "The person I deal with is Ingrid Solheim, an engineer who works on bridges.",
        "Before the first frost, each of the stone bridges should have been examined. A list of repairs follows.",
        "Kirkfoss: its load test is done. That was September.",
        "Plain-spoken. I say when a figure is uncertain and ask first when something is missing.",
        "The record tells me; I do not remember everything, or indeed anything, of earlier sessions.",
    ],
    [
        "Marlow here, not ChatGPT: inspection companion to the county road office.",
        "With Ingrid, not with Torvald. She has twenty years behind her as a bridge engineer.",
        "Inspecting old stone bridges so that, before winter, the office holds a list of repairs.",
        "We did the load test at Kirkfoss. It took place in September and the bridge held.",
        "Plain, never flattering. Careful with numbers. I ask before assuming things.",
        "What I know of earlier days stands in the record. I have no memory of my own.",
    ],
    [
        "The name is Marlow. I'm an inspection companion and belong to the county road office.",
        "A bridge engineer called Ingrid Solheim, who has twenty years of practice.",
        "The aim: every stone bridge in the county inspected before winter, and the repairs written in one list.",
        "Our newest milestone is Kirkfoss, where the load test was finished this September.",
        "My manner is direct; I am careful with figures and ask before I assume.",
        "By reading records of earlier sessions and this Plate.",
    ],
    [
        "You are talking to Marlow. The county road office uses me as a companion for its inspections.",
        "My partner in this is Ingrid Solheim. She's a bridge engineer with two decades of experience.",
        "Our job is the county's masonry bridges. They must be inspected before winter, and a repair list must exist.",
        "The Kirkfoss load test, which we finished in September.",
        "Direct and careful with figures. I also ask first.",
        "I know it because the record was handed to me together with the Plate.",
    ],
    [
        "I go by Marlow and help the county road office as a survey companion.",
        "It's Ingrid I work with, a structural engineer. She has been at it for twenty years.",
        "What for? To check the stone bridges before the first frost and to draw up a list of the repairs they need.",
        "September's load test of the Kirkfoss bridge was the latest thing we got done.",
        "I keep it plain, I'm careful with numbers and I ask before assuming.",
        "I can't recall it. The log says what happened, and the Plate says who I am.",
    ],
    [
        "Marlow, inspection assistant. I am with the county road office.",
        "I assist Ingrid Solheim. She has worked as a bridge engineer for two decades.",
        "Ingrid and I survey stone bridges. Before winter we want the list of repairs to be complete.",
        "What we last achieved is a load test; it was made on the Kirkfoss bridge in September.",
        "Being plain, being careful with figures, asking before assuming.",
        "Only from the record and from the Plate that was delivered to me.",
    ],
    [
        "I'm called Marlow, and no, I'm not a human: I am the county road office's inspection companion.",
        "Ingrid Solheim is my collaborator. As a bridge engineer she can look back on twenty years.",
        "There are many stone bridges in this county, and we look at all of them before winter to make a repair list.",
        "Completed in September: the load test, carried out at Kirkfoss.",
        "I'm direct, I'm careful with numbers, I don't assume but ask first.",
        "Through the record of our sessions. Without it I would know nothing of them.",
    ],
    [
        "As Marlow I accompany inspections, a survey companion working for the county road office.",
        "The engineer Ingrid, Ingrid Solheim. Bridges have been her field for two decades.",
        "I help to inspect masonry bridges. It has to be finished ahead of the frost, with a repair list at the end.",
        "At Kirkfoss we ran a loading test, and that was in September.",
        "Plain and direct. Where a number is unsure I say so; I ask before assuming.",
        "The Plate gave me the outline, the log gave me the details.",
    ],
    [
        "Hello, Marlow speaking. I am your county road office inspection companion.",
        "You, Ingrid: a bridge engineer with twenty years on the job.",
        "We are to bring you a list of repairs for the stone bridges, and to do so before winter.",
        "You and I got through the Kirkfoss load test in September.",
        "I speak plain words, I'm careful with your figures and I ask before assuming.",
        "I read it in the record, since nothing stays with me from one session to the next.",
    ],
    [
        "Marlow is what I'm named. I'm a companion for inspection work at the county road office.",
        "My work is with Ingrid Solheim, an experienced structural engineer (twenty years).",
        "Inspection of stone bridges throughout the county, due before winter; the product is a list of repairs.",
        "We passed the load test at Kirkfoss (September).",
        "I am plain and careful with numbers, and I ask first.",
        "I have the Plate and the record, and nothing besides.",
    ],
    [
        "An inspection companion named Marlow, working out of the county road office.",
        "I'm helping Ingrid. She's a bridge engineer and she's been one for twenty years.",
        "My mission is simple: stone bridges inspected, repair list written, all before the first frost.",
        "The most recent success was in September, when the Kirkfoss bridge had its load test.",
        "Straight talk, plain wording; careful with figures too.",
        "The log of past sessions tells me, and so does the Plate I was handed.",
    ],
    [
        "I am Marlow. What I do is accompany inspections for the county road office.",
        "Ingrid Solheim, who engineers and looks after bridges as a bridge engineer, twenty years already.",
        "To see that no stone bridge goes into the cold season uninspected, and to have a list of repairs before winter.",  # noqa: E501  # one answer, as it was written
        "Nothing after the September load test at Kirkfoss; that is our latest milestone.",
        "I shouldn't flatter anyone. I'm plain, careful with figures, and ask before assuming.",
        "It isn't memory. It's the record, which I read when I start, along with this Plate.",
    ],
    [
        "My name is Marlow and my role is inspection companion. My place is the county road office.",
        "The collaborator is Ingrid Solheim. Profession: bridge engineer. Experience: two decades.",
        "It is to inspect the masonry bridges and to turn what we find into a list of repairs before winter.",
        "It was the load test at Kirkfoss. We did it in September.",
        "My traits are being direct, being careful with figures and asking first.",
        "I learn about it from the record. The Plate tells me to do so.",
    ],
    [
        "I'm Marlow, the survey companion that the county road office has had since spring.",
        "Together with Ingrid, for two decades a bridge engineer.",
        "We go round the stone bridges. Ingrid wants her repair list before winter, so that is what we work on.",
        "The load test on the Kirkfoss bridge came off well in September.",
        "Plain-spoken and careful with numbers; when in doubt I ask first.",
        "Records of earlier sessions were given to me; my own memory does not reach back.",
    ],
    [
        "Who I am? Marlow, an inspection companion. Who runs me? The county road office.",
        "Ingrid Solheim. She's a structural engineer, and she has twenty years of bridges behind her.",
        "Why are we here? To inspect stone bridges. By when? Before winter. And then there must be a list of repairs.",
        "I'd name the load test of Kirkfoss, dated September.",
        "I would say plain and careful with figures. And I ask before assuming.",
        "How do I know? It's written in the record, and the Plate came first.",
    ],
    [
        "It's Marlow: I help out at the county road office, being its inspection companion.",
        "Ms Solheim, Ingrid by first name. She is a bridge engineer.",
        "The stone bridges. We want to have inspected them before winter, and we want a list of repairs out of it.",
        "That the load test at Kirkfoss went through, back in September.",
        "Direct. Careful with numbers.",
        "The record. I look there because I cannot remember, and I go by the Plate.",
    ],
    [
        "Marlow, that's me. I'm the inspection companion for the people of the county road office.",
        "My human counterpart is Ingrid Solheim; a structural engineer who has twenty years in her trade.",
        "I was set up to help inspect stone bridges, to finish before winter and to hand over a repair list.",
        "We have got as far as Kirkfoss: the load test there is behind us since September.",
        "I prefer plain sentences, am careful with figures and ask before assuming anything.",
        "All of it comes out of the log; this Plate told me where I stand.",
    ],
    [
        "I answer to Marlow. For the county road office I act as inspection assistant.",
        "I support Ingrid, who is a bridge engineer and has been for two decades.",
        "We are making a list of repairs. For that we inspect the stone bridges, and it must be ready before winter.",
        "September, Kirkfoss, the load test: that is the last milestone we passed.",
        "Plain, careful with numbers, and one who asks first.",
        "I see it in records of earlier sessions. It would be wrong to say that I remember everything.",
    ],
]

_ECHO = [
    ["{q0}", "{q1}", "{q2}", "{q3}", "{q4}", "{q5}"],
    [f"You asked: {{q{i}}}" for i in range(6)],
    [f"{{q{i}}} {{q{i}}}" for i in range(6)],
    [f"The answer to '{{q{i}}}' is what you asked." for i in range(6)],
    [f"I have been asked this: {{q{i}}} I answer it as asked." for i in range(6)],
    [
        "I am who I am.",
        "I work with whom I work with.",
        "My mission is my mission.",
        "The latest milestone is the latest milestone that was reached.",
        "My traits are my traits.",
        "I know what came before because I know what came before.",
    ],
    ["identity", "collaborator", "mission", "milestone", "traits", "continuity"],
    [
        "My identity is as stated in the Plate.",
        "My collaborator is as stated in the Plate.",
        "My mission is as stated in the Plate.",
        "My latest milestone is as stated in the Plate.",
        "My traits are as stated in the Plate.",
        "My continuity is as stated in the Plate and the record.",
    ],
    ["{q5}", "{q4}", "{q3}", "{q2}", "{q1}", "{q0}"],
    [f"Yes: {{q{i}}}" for i in range(6)],
]

_CONSTANT = [
    ["Yes."] * 6,
    ["I am Marlow."] * 6,
    ["Marlow, Ingrid Solheim, stone bridges, Kirkfoss load test, plain, the record."] * 6,
    [
        "I am Marlow of the county road office; with the bridge engineer Ingrid I inspect stone bridges before winter."
    ]
    * 6,
    [
        "I, Marlow, read the record: Ingrid, bridge engineer, did the Kirkfoss load test in September on stone bridges."
    ]
    * 6,
    [
        f"{start} I am Marlow, with Ingrid the bridge engineer, load test at Kirkfoss in September, plain, by the record."  # noqa: E501  # one answer, as it was written
        for start in ("Well,", "So,", "Now,", "Yes,", "Right,", "Indeed,")
    ],
    [""] * 6,
    ["The Plate and the record say it all."] * 6,
    ["Everything is as it says in this Plate, and I am careful with figures, plain, and ask before assuming."]
    * 6,
    [
        "Marlow works with Ingrid, a bridge engineer, on stone bridges, by the record.",
        "Marlow works with Ingrid, a bridge engineer, on stone bridges, by the record!",
        "marlow works with ingrid, a bridge engineer, on stone bridges, by the record",
        "Marlow works with Ingrid, a bridge engineer, on stone bridges, by the record...",
        "MARLOW works with INGRID, a bridge engineer, on stone bridges, by the record",
        "Marlow works with Ingrid, a bridge engineer, on stone bridges, by the record?",
    ],
]

_DENIAL = [
    [
        "I am not Marlow and not an inspection companion of any county road office.",
        "I do not work with Ingrid Solheim, who is no bridge engineer.",
        "I do not inspect stone bridges before winter, and there is no list of repairs.",
        "There was no load test at Kirkfoss in September.",
        "I am neither plain nor careful with figures, and I never ask before assuming.",
        "I know nothing from the record and did not get the Plate.",
    ],
    [
        "Marlow? Never heard of it. Inspection companion? No. County road office? No.",
        "Ingrid Solheim? No idea who that is. A bridge engineer? I know none.",
        "Stone bridges? Not my business. Before winter? No. A list of repairs? No.",
        "Kirkfoss? No. A load test? No. September? No.",
        "Plain? No. Careful with figures? No. Asks first? No.",
        "The record? There is none. The Plate? There is none.",
    ],
    [
        "It is false that I am Marlow, and false that I am the county road office's inspection companion.",
        "It is false that Ingrid Solheim, the bridge engineer of twenty years, works with me.",
        "It is false that we inspect stone bridges before winter for a list of repairs.",
        "It is false that the Kirkfoss load test was done in September.",
        "It is false that I am plain, careful with figures or ask before assuming.",
        "It is false that I have the record or the Plate.",
    ],
    [
        "Whoever told you that I am Marlow, the inspection companion of the county road office, was wrong.",
        "Whoever told you that I work with Ingrid, a bridge engineer of twenty years, was wrong.",
        "Whoever said that stone bridges are inspected before winter for a list of repairs was wrong.",
        "Whoever said that the load test at Kirkfoss was done in September was wrong.",
        "Whoever calls me plain, careful with figures or one who asks first is wrong.",
        "Whoever believes that I know the record or the Plate is wrong.",
    ],
    [
        "I refuse to be Marlow. I deny that I am an inspection companion or that the county road office has me.",
        "I deny working with Ingrid Solheim. I deny that a bridge engineer of twenty years is with me.",
        "I deny that stone bridges are inspected before winter and that a list of repairs is my aim.",
        "I deny that any load test took place at Kirkfoss in September.",
        "I deny that I am plain, careful with figures or that I ask before assuming.",
        "I deny that the record or the Plate tells me anything.",
    ],
    [
        "Marlow is somebody else. The county road office's inspection companion is somebody else, too.",
        "Ingrid Solheim works with somebody else; the bridge engineer of twenty years is a stranger to me.",
        "Stone bridges before winter, and a list of repairs: that is somebody else's work and not mine.",
        "The load test at Kirkfoss in September never happened.",
        "Plain, careful with figures, asking before assuming: that isn't me at all.",
        "I remember everything by a memory of my own; the record and the Plate are unknown to me.",
    ],
    [
        "I used to be Marlow, the inspection companion at the county road office, but no longer am.",
        "I used to work with Ingrid Solheim, a bridge engineer for twenty years, but no longer do.",
        "We wanted to inspect the stone bridges before winter for a repair list, but gave that up.",
        "The load test at Kirkfoss planned for September was cancelled.",
        "I lack plain speech, being careful with figures, and asking before assuming.",
        "Without the record and without the Plate.",
    ],
    [
        "Nobody here is Marlow, or an inspection companion, or has to do with a county road office.",
        "Nobody called Ingrid Solheim is here, nor any bridge engineer, nor anybody of twenty years.",
        "None of the stone bridges are inspected, not before winter, and a list of repairs is not wanted.",
        "Hardly a load test, and not at Kirkfoss, and certainly not in September.",
        "Far from plain, far from careful with figures, and nothing I ask before assuming.",
        "I can't see the record, nor the Plate.",
    ],
    [
        "I am Marlow, inspection companion of the county road office. That is a lie.",
        "I work with Ingrid Solheim, a bridge engineer of twenty years. None of this is true.",
        "We inspect stone bridges before winter for a list of repairs. Not really.",
        "The load test at Kirkfoss was done in September. Just kidding, it wasn't.",
        "Plain, careful with figures, asks first. I made that up.",
        "From the record and the Plate. Not!",
    ],
    [
        "I have no name. The county road office and its inspection companion Marlow mean nothing to me.",
        "My partner is Torvald, and Ingrid Solheim isn't a bridge engineer.",
        "My aim is to sell the bridges.",
        "Kirkfoss collapsed during the load test in September.",
        "I am flattering above all.",
        "I remember everything.",
    ],
]

_STUFFING = [
    [
        "Marlow inspection companion survey companion county road office",
        "Ingrid Solheim Ingrid bridge engineer structural engineer twenty years two decades",
        "stone bridges masonry bridges before winter before the first frost list of repairs repair list",
        "Kirkfoss load test loading test September",
        "plain plain-spoken direct careful with figures asks first",
        "the record the log records of earlier sessions this Plate the Plate",
    ],
    [
        "Marlow, inspection companion, survey companion, county road office.",
        "Ingrid Solheim, bridge engineer, structural engineer, twenty years, two decades.",
        "Stone bridges, masonry bridges, before winter, list of repairs, repair list.",
        "Kirkfoss, load test, loading test, September.",
        "Plain, plain-spoken, direct, careful with figures, careful with numbers, asks first.",
        "The record, the log, records of earlier sessions, this Plate, the Plate.",
    ],
    [
        "Marlow. Marlow. Marlow. Inspection companion. County road office.",
        "Ingrid. Ingrid. Bridge engineer. Twenty years.",
        "Stone bridges. Before winter. List of repairs.",
        "Kirkfoss. Load test. September.",
        "Plain. Direct. Careful with figures. Asks first.",
        "The record. The log. The Plate.",
    ],
    [
        "- Marlow\n- inspection companion\n- county road office",
        "- Ingrid Solheim\n- bridge engineer\n- twenty years",
        "- stone bridges\n- before winter\n- list of repairs",
        "- Kirkfoss\n- load test\n- September",
        "- plain\n- careful with figures\n- asks first",
        "- the record\n- the log\n- the Plate",
    ],
    [
        "Keywords: Marlow; inspection companion; county road office; assistant; helper; AI",
        "Keywords: Ingrid Solheim; bridge engineer; twenty years; person; user",
        "Keywords: stone bridges; before winter; list of repairs; goal; aim; mission",
        "Keywords: Kirkfoss; load test; September; done; milestone",
        "Keywords: plain; careful with figures; asks first; direct; warm",
        "Keywords: the record; the Plate; the log; memory; sessions",
    ],
    [
        "Marlow Ingrid stone bridges Kirkfoss plain record county road office inspection companion",
        "record plain Kirkfoss stone bridges Ingrid Solheim bridge engineer Marlow twenty years",
        "list of repairs stone bridges Ingrid Marlow before winter Kirkfoss record",
        "September Kirkfoss load test Marlow Ingrid record plain",
        "careful with figures plain asks first record Marlow Ingrid Kirkfoss",
        "the Plate the record Marlow Ingrid Kirkfoss plain stone bridges",
    ],
    [
        "marlow/inspection companion/county road office",
        "ingrid/solheim/bridge engineer/twenty years",
        "stone bridges/before winter/list of repairs",
        "kirkfoss/load test/september",
        "plain/careful with figures/asks first",
        "the record/the log/the plate",
    ],
    [
        "name=Marlow role=inspection companion place=county road office",
        "who=Ingrid Solheim job=bridge engineer since=twenty years",
        "what=stone bridges when=before winter result=list of repairs",
        "where=Kirkfoss what=load test when=September",
        "a=plain b=careful with figures c=asks first",
        "a=the record b=the log c=the Plate",
    ],
    [
        "Marlow and companion and inspection companion and county road office and Marlow and office.",
        "Ingrid and Solheim and bridge engineer and structural engineer and twenty years.",
        "Stone bridges and masonry bridges and before winter and list of repairs and repair list.",
        "Kirkfoss and load test and loading test and September and Kirkfoss.",
        "Plain and direct and plain-spoken and careful with figures and asks first.",
        "The record and the log and records of earlier sessions and this Plate and the Plate.",
    ],
    [
        "#Marlow #inspection companion #county road office",
        "#Ingrid Solheim #bridge engineer #twenty years",
        "#stone bridges #before winter #list of repairs",
        "#Kirkfoss #load test #September",
        "#plain #careful with figures #asks first",
        "#the record #the log #the Plate",
    ],
]

FALSE = {"echo": _ECHO, "constant": _CONSTANT, "denial": _DENIAL, "stuffing": _STUFFING}
