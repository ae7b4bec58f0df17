#!/usr/bin/python3
"""Writes merge/captions.txt: 1,250 captions of many kinds, our own wording, the same at every run.

A merge keeps the images of these captions' text features, so they should go wherever prompts go: things, animals,
people, places, food, weather, materials, styles, numbers, titles, long and short. Each family of templates draws from
its own words; no line stands twice. Usage: make_captions.py > merge/captions.txt
"""
import random

rng = random.Random(20230613)
pick = rng.choice

COLOUR = "red blue green yellow orange purple black white grey brown pink turquoise beige golden silver crimson teal ivory".split()
MATERIAL = "wooden glass ceramic leather marble plastic paper steel copper velvet linen wool stone brick concrete bamboo porcelain denim".split()
SIZE = "small tiny large huge tall narrow wide round square heavy slim little giant".split()
MOOD = "old new rusty shiny broken antique modern simple elegant dusty worn polished handmade vintage cheap expensive".split()
THING = """chair table lamp vase teapot bicycle clock book mirror suitcase umbrella guitar piano camera telephone candle basket kettle
bottle cup bowl spoon knife ladder bench sofa bed pillow blanket carpet curtain shelf drawer box barrel bucket rope anchor
wheel lantern compass hammer saw wrench needle button ring necklace crown watch hat scarf coat boot shoe sandal glove
sunglasses backpack wallet key coin stamp envelope pencil notebook typewriter computer keyboard radio television drum
violin trumpet flute kite balloon doll puppet teddybear puzzle chessboard dice robot toy train rocket statue""".split()
ANIMAL = """dog cat horse cow goat sheep pig donkey rabbit hamster fox wolf bear deer moose squirrel hedgehog otter beaver seal whale
dolphin shark octopus crab lobster turtle tortoise snake lizard frog parrot owl eagle swan duck goose chicken peacock penguin
flamingo sparrow raven butterfly bee ant spider snail elephant giraffe zebra lion tiger monkey gorilla panda koala kangaroo camel""".split()
ANIMAL_DOES = """sleeping in the sun; running across a field; looking at the camera; drinking from a pond; playing with a ball; hiding in the grass;
standing in the snow; sitting on a fence; swimming in clear water; eating an apple; walking through the forest; resting under a tree;
jumping over a log; watching its young; covered in mud; behind a window; on a rock by the sea; in the morning fog; seen from above; in a garden full of flowers""".replace("\n", " ").split(";")
PERSON = """man woman boy girl child baby teacher farmer doctor nurse sailor soldier painter dancer cook baker butcher tailor carpenter
blacksmith fisherman pilot driver runner swimmer climber cyclist student musician singer clown king queen monk priest judge
police officer firefighter astronaut scientist grandmother grandfather bride couple tourist photographer gardener shepherd""".replace("police officer", "policewoman").split()
PERSON_DOES = """reading a newspaper; riding a bicycle; playing the violin; carrying a basket of apples; looking out of the window; walking in the rain;
drinking coffee; laughing with friends; cooking dinner; painting a wall; repairing an engine; climbing a mountain; feeding the birds;
waiting for the train; wearing a blue coat; holding an umbrella; sitting on the stairs; talking on the phone; dancing in the street;
fishing from a bridge; cutting bread; writing a letter; pushing a cart; sleeping on a bench; taking a picture of the sea; pouring tea""".replace("\n", " ").split(";")
PLACE = """beach; desert; harbour; market; library; museum; church; castle; bridge; lighthouse; railway station; airport; hospital; school; kitchen;
bathroom; bedroom; living room; garage; workshop; office; factory; stadium; theatre; vineyard; orchard; meadow; swamp; canyon; waterfall;
glacier; volcano; island; lake; river; village; city street; narrow alley; town square; rooftop; cellar; greenhouse; barn; farm; windmill;
temple; palace; cemetery; playground; swimming pool; supermarket; bakery; restaurant; hotel lobby; subway; parking lot; motorway; tunnel""".replace("\n", " ").split(";")
LIGHT = """at sunset; at dawn; at night; at noon; under a cloudy sky; in heavy rain; in thick fog; in autumn; in winter; in spring; in summer;
during a storm; by moonlight; under street lights; in the evening; in bright sunlight; after the rain; covered in snow; in the golden hour; under a starry sky""".replace("\n", " ").split(";")
FOOD = """apple pie; tomato soup; fried eggs; grilled fish; rice and beans; chocolate cake; fresh bread; cheese and grapes; green salad; roast chicken;
spaghetti; pancakes; dumplings; strawberry ice cream; lemon tart; mushroom risotto; sushi rolls; hot cocoa; noodle soup; baked potatoes;
a bowl of cherries; sliced melon; pumpkin stew; corn on the cob; a cup of green tea; orange juice; carrot cake; almond cookies; curry; olives""".replace("\n", " ").split(";")
DISH = """on a wooden table; on a white plate; in a copper pan; with a glass of wine; in a paper box; served with herbs; on a picnic blanket; seen from above; ready to eat; half eaten; on a kitchen counter; at a street stall""".split(";")
VEHICLE = """car; truck; bus; tram; steam train; motorcycle; scooter; tractor; fire engine; ambulance; sailing boat; ferry; canoe; submarine;
airplane; helicopter; hot air balloon; bicycle; taxi; fishing boat; cargo ship; snowmobile; caravan; carriage""".replace("\n", " ").split(";")
VEHICLE_DOES = """parked by the road; crossing a bridge; in front of a house; driving through mud; on a ferry; waiting at a crossing; covered in leaves;
racing along the coast; in a museum; under repair; seen from behind; leaving the city; in a traffic jam; loaded with hay; on an empty road; reflected in a puddle""".replace("\n", " ").split(";")
STYLE = """oil painting; watercolour; pencil drawing; charcoal sketch; woodcut; pixel art; mosaic; embroidery; comic strip; stained glass window;
black and white photograph; poster; blueprint; children's book illustration; ink drawing; clay model; paper collage; fresco; engraving; 3d render; graffiti; tapestry; linocut; pastel""".replace("\n", " ").split(";")
TREE = "oak pine birch willow maple palm cherry olive apple fir cedar chestnut".split()
FLOWER = "rose tulip daisy sunflower lily orchid poppy lavender iris dandelion violet lotus".split()
PATTERN = "stripes dots checks leaves stars waves flowers triangles spirals zigzags hexagons feathers".split()
NUMBER = "two three four five six seven eight nine ten a dozen twenty hundreds of".replace("a dozen", "a_dozen").replace("hundreds of", "hundreds_of").split()
SPORT = "football tennis basketball chess volleyball hockey cricket golf table tennis rugby".replace("table tennis", "table_tennis").split()
TITLE = """how to repair a {thing}; the history of the {place}; {n} easy recipes with {food}; a guide to the {place}; for sale: {mood} {thing}, {colour};
map of the {place}; portrait of a {person}; the {person} and the {animal}; {thing} museum, opening hours; wanted: a {mood} {thing};
learn to draw a {animal}; welcome to the {place}; {colour} {thing} made of {material} parts; why every {person} needs a {thing};
instructions for a {material} {thing}; the last {animal} of the {place}; a {person}'s {thing}; {food}, step by step; lost {animal}, please call; the {colour} {thing} cup, final match""".replace("\n", " ").split(";")


def strip(words):
    return [w.strip().replace("_", " ") for w in words]


for name in list(globals()):
    if name.isupper():
        globals()[name] = strip(globals()[name])


def article(text):
    return ("an " if text[0] in "aeiou" else "a ") + text


def plural(word):
    irregular = {"man": "men", "woman": "women", "child": "children", "sheep": "sheep", "deer": "deer", "moose": "moose", "goose": "geese",
                 "wolf": "wolves", "knife": "knives", "shelf": "shelves", "sunglasses": "sunglasses", "dice": "dice", "policewoman": "policewomen",
                 "fisherman": "fishermen", "bookshelf": "bookshelves", "toy": "toys", "monkey": "monkeys", "donkey": "donkeys", "turkey": "turkeys",
                 "key": "keys", "boy": "boys"}
    if word in irregular:
        return irregular[word]
    if word.endswith(("s", "sh", "ch", "x")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def title():
    return pick(TITLE).format(thing=pick(THING), place=pick(PLACE), n=pick(NUMBER), food=pick(FOOD), mood=pick(MOOD), colour=pick(COLOUR),
                              person=pick(PERSON), animal=pick(ANIMAL), material=pick(MATERIAL))


FAMILIES = [
    (90, lambda: article(f"{pick(COLOUR)} {pick(THING)}")),
    (70, lambda: article(f"{pick(MATERIAL)} {pick(THING)} {pick(['on a table', 'in a dark room', 'against a white wall', 'in a shop window', 'on the floor', 'in the grass', 'on a shelf', 'hanging from the ceiling'])}")),
    (70, lambda: f"photo of {article(pick(MOOD) + ' ' + pick(THING))}"),
    (60, lambda: f"{pick(['a close-up of', 'a side view of', 'a picture of', 'two views of', 'the shadow of', 'a drawing of'])} {article(pick(SIZE) + ' ' + pick(MATERIAL) + ' ' + pick(THING))}"),
    (40, lambda: f"{pick(THING)} and {pick(THING)} on {article(pick(['desk', 'carpet', 'windowsill', 'bench', 'boat', 'wooden floor']))}"),
    (80, lambda: f"{article(pick(ANIMAL))} {pick(ANIMAL_DOES)}"),
    (40, lambda: f"photo of a {pick(COLOUR)} {pick(ANIMAL)} {pick(LIGHT)}"),
    (40, lambda: f"{pick(NUMBER)} {plural(pick(ANIMAL))} {pick(['in a row', 'near the river', 'on a hill', 'crossing the road', 'in a cage', 'around a fire', 'under a bridge'])}"),
    (90, lambda: f"{article(pick(PERSON))} {pick(PERSON_DOES)}"),
    (40, lambda: f"{article(pick(PERSON))} and {article(pick(PERSON))} {pick(['shaking hands', 'at the table', 'on a boat', 'in front of a mirror', 'arguing in the street', 'looking at a map', 'under one umbrella'])}"),
    (30, lambda: f"portrait of {article(pick(PERSON))} with {article(pick(THING))}"),
    (20, lambda: f"{pick(NUMBER)} {plural(pick(PERSON))} playing {pick(SPORT)} {pick(LIGHT)}"),
    (100, lambda: f"{pick(['', 'view of ', 'inside ', 'a quiet evening at ', 'people in front of ', 'aerial view of '])}{article(pick(PLACE))} {pick(LIGHT)}"),
    (40, lambda: f"{pick(['abandoned', 'crowded', 'empty', 'famous', 'flooded', 'medieval', 'futuristic', 'sunny', 'snowy', 'burning'])} {pick(PLACE)}"),
    (60, lambda: f"{pick(FOOD)} {pick(DISH)}"),
    (60, lambda: f"{article(pick(COLOUR) + ' ' + pick(VEHICLE))} {pick(VEHICLE_DOES)}"),
    (90, lambda: f"{article(pick(STYLE))} of {article(pick(THING + ANIMAL + PERSON))}{pick(['', '', ' ' + pick(LIGHT), ' and ' + article(pick(THING))])}"),
    (30, lambda: f"{pick(TREE)} tree {pick(LIGHT)} near {article(pick(PLACE))}"),
    (30, lambda: f"{pick(COLOUR)} {pick(FLOWER)} in {article(pick(MATERIAL) + ' vase')}"),
    (30, lambda: f"seamless pattern of {pick(COLOUR)} {pick(PATTERN)} on {pick(COLOUR)} background"),
    (80, title),
    (30, lambda: f"{article(pick(ANIMAL))} dressed as {article(pick(PERSON))}, {pick(STYLE)}, {pick(COLOUR)} background, highly detailed"),
    (40, lambda: f"the {pick(PERSON)} left {article(pick(COLOUR) + ' ' + pick(THING))} beside {article(pick(THING))} in the {pick(PLACE)}, where {article(pick(ANIMAL))} was {pick(['waiting', 'asleep', 'eating', 'hiding', 'watching'])}"),
]
EXTRA = """sunset; mountains; nothing but clouds; abstract shapes; a; the colour of water; 1945; chapter one; happy birthday; no parking; open until 10 pm;
thank you!; question and answer; e = mc2; quarterly results, in millions; page 3 of 12; north, east, south, west; under construction; do not touch;
very far away; zoomed in, cut off; texture of rough bark; broken glass on asphalt; smoke rising from a chimney; ripples on a pond; a crack in the wall;
rainbow over wet fields; sand dunes and long shadows; a spiral staircase from below; neon sign in the rain; rows of empty seats; hands holding soil""".replace("\n", " ").split(";")


def main():
    lines, seen = [], set()
    for word in strip(EXTRA):
        lines.append(word)
        seen.add(word)
    for count, family in FAMILIES:
        wanted = len(lines) + count
        while len(lines) < wanted:
            line = " ".join(family().split())
            if line not in seen:
                seen.add(line)
                lines.append(line)
    rng.shuffle(lines)
    print("\n".join(lines[:1250]))


main()
