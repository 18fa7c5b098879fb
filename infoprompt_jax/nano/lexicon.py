"""The words of the nano world and the facts about them: names, kinds of things, opinions, causes.

Every generated text is made from these tables and every label follows from them, so that `tests/nano/test_world.py` can
check the rows.
"""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """The words of a text, separated by spaces."""
    return tuple(text.split())


WOMEN = words("anna maria lucy emma sarah julia laura nina rosa clara ella grace helen irene jane kate linda ruth")
MEN = words("tom peter john david mark paul simon oscar victor adam ben carl eric frank henry jack leo martin")
NAMES = WOMEN + MEN
SURNAMES = words("smith brown wilson clark lewis walker hall young king wright green baker hill scott adams moore")

# What a thing is. The words of a row are all of that kind, and of no other.
KINDS = {
    "bird": words("sparrow robin eagle owl crow swan parrot pigeon"),
    "fish": words("trout salmon shark carp tuna cod herring eel"),
    "insect": words("ant bee wasp moth beetle butterfly cricket mosquito"),
    "farm animal": words("cow sheep goat pig pony donkey horse lamb"),
    "fruit": words("apple pear plum cherry grape mango banana peach"),
    "vegetable": words("carrot onion potato cabbage bean leek pumpkin cucumber"),
    "tool": words("hammer saw axe wrench spade rake shovel screwdriver"),
    "instrument": words("piano violin guitar trumpet harp cello clarinet banjo"),
    "vehicle": words("car bus truck tram bicycle van tractor motorcycle"),
    "garment": words("coat hat scarf shirt sock glove sweater jacket"),
    "piece of furniture": words("chair sofa desk shelf armchair wardrobe stool bench"),
    "drink": words("tea coffee milk juice wine beer lemonade cocoa"),
}
# What holds for every word of a kind, and for none of the kinds that are missing from it.
ABILITIES = {
    "has feathers": ("bird",),
    "has fins": ("fish",),
    "has six legs": ("insect",),
    "lives on a farm": ("farm animal",),
    "grows sweet on a tree or a vine": ("fruit",),
    "is dug up or cut in the vegetable garden": ("vegetable",),
    "is used for work by hand": ("tool",),
    "makes music": ("instrument",),
    "drives on the road": ("vehicle",),
    "is worn on the body": ("garment",),
    "is a seat or holds things at home": ("piece of furniture",),
    "is poured into a cup or a glass": ("drink",),
    "has eyes": ("bird", "fish", "insect", "farm animal"),
}

UNCOUNTED = KINDS["drink"]  # these take no article
COLOURS = words("red blue green yellow black white brown grey pink purple")
OBJECTS = words(
    "lamp book key cup ball box bag bottle umbrella mirror clock basket candle blanket camera letter ring map"
)
PLACES = words(
    "kitchen garden park school station market library museum forest street office hotel church garage attic cellar"
)
CITIES = words(
    "london paris berlin madrid rome oslo vienna dublin lisbon prague athens boston chicago moscow cairo tokyo"
)
JOBS = words(
    "doctor teacher baker farmer lawyer driver painter singer nurse pilot judge cook waiter writer engineer gardener"
)
DAYS = words("monday tuesday wednesday thursday friday saturday sunday")
YEARS = tuple(str(year) for year in range(1930, 2000, 5))
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")
HOBBIES = words("painting singing cooking fishing reading dancing swimming hiking skiing sailing")

# Verbs of giving and moving with a synonym each; (past, participle, synonym's past, synonym's participle).
TRANSFERS = (
    ("gave", "given", "handed", "handed"),
    ("sent", "sent", "mailed", "mailed"),
    ("lent", "lent", "loaned", "loaned"),
    ("brought", "brought", "carried", "carried"),
)
ACTIONS = (  # somebody does it to a thing
    ("bought", "bought", "purchased", "purchased"),
    ("fixed", "fixed", "repaired", "repaired"),
    ("found", "found", "discovered", "discovered"),
    ("took", "taken", "grabbed", "grabbed"),
    ("made", "made", "created", "created"),
    ("broke", "broken", "smashed", "smashed"),
    ("cleaned", "cleaned", "washed", "washed"),
    ("hid", "hidden", "concealed", "concealed"),
    ("lost", "lost", "mislaid", "mislaid"),
    ("painted", "painted", "coloured", "coloured"),
)

GOOD = words(
    "good great wonderful excellent lovely brilliant superb charming delightful beautiful funny clever fresh "
    "amazing pleasant perfect exciting moving touching smart fine enjoyable fascinating impressive"
)
BAD = words(
    "bad awful terrible horrible boring dull poor weak stupid silly ugly annoying tedious disappointing "
    "dreadful tiresome bland clumsy messy lame stale unpleasant predictable painful"
)
FILM_PARTS = words("story plot acting music ending script dialogue cast photography humour opening direction")
WORKS = words("film movie show play book novel series comedy drama documentary")
MEAL_PARTS = words("soup salad fish bread dessert service waiter room view price music coffee garden staff")

TOPICS = {
    "sports": words(
        "match team coach goal league player stadium championship race cup tennis football striker referee"
    ),
    "business": words("company bank profit shares market sales investor merger factory price loan trade budget firm"),
    "science": words(
        "researchers experiment planet virus telescope theory cells atoms laboratory species galaxy data vaccine fossil"
    ),
    "politics": words(
        "president election parliament minister vote law government party senate treaty campaign mayor reform debate"
    ),
    "weather": words("storm rain snow wind clouds sunshine flood frost thunder forecast heat fog hail drought"),
    "food": words("recipe chef restaurant sauce dinner oven cheese pasta flavour kitchen menu pastry spice soup"),
}

# A state or event and what follows from it, for a person. Each consequence follows from its own cause only.
CAUSES = (
    ("was hungry", "ate a sandwich"),
    ("was thirsty", "drank a glass of water"),
    ("was tired", "yawned again and again"),
    ("was cold", "put on a warm coat"),
    ("was hot", "opened the window"),
    ("was ill", "stayed in bed with a fever"),
    ("was bored", "started a board game"),
    ("was late", "apologised to the waiting guests"),
    ("was lost", "looked at the map"),
    ("was dirty", "scrubbed both hands with soap"),
    ("lost the key", "could not open the door"),
    ("broke the window", "had to pay for new glass"),
    ("dropped the cup", "bought a new cup"),
    ("heard a joke", "laughed out loud"),
    ("heard the alarm", "left the building"),
    ("saw the rain", "took an umbrella"),
    ("saw a snake", "screamed with fear"),
    ("got a letter", "sat down to write an answer"),
    ("won the lottery", "bought a big house"),
    ("won the race", "received a gold medal"),
    ("failed the exam", "had to repeat the course"),
    ("passed the exam", "celebrated the good mark"),
    ("forgot the milk", "went back to the shop"),
    ("missed the train", "waited for the next one"),
    ("burned the toast", "smelled the smoke"),
    ("cut a finger", "asked for a bandage"),
    ("broke a leg", "walked with crutches"),
    ("had a toothache", "went to the dentist"),
    ("had a birthday", "blew out the candles"),
    ("had no money", "asked the bank for a loan"),
    ("found a wallet", "took it to the police"),
    ("planted seeds", "watered the soil every day"),
    ("wanted to lose weight", "ate less sugar"),
    ("wanted to learn french", "took a language course"),
    ("wanted to be alone", "locked the door of the room"),
    ("wanted a pet", "adopted a kitten"),
    ("moved to a new town", "looked for a flat"),
    ("could not sleep", "counted sheep"),
    ("spilled the juice", "fetched a wet cloth"),
    ("ran out of petrol", "pushed the car to the garage"),
)
