"""Words with two senses, and for each sense sentences in which only that sense fits."""

from __future__ import annotations

SENSES = {
    "bank": (
        (
            "she opened an account at the bank",
            "the bank gave him a loan",
            "the bank was closed so they had no cash",
            "a clerk at the bank counted the money",
        ),
        (
            "they sat on the bank of the river",
            "the boat was tied to the bank",
            "flowers grew along the bank of the stream",
            "the water rose over the bank",
        ),
    ),
    "bat": (
        (
            "the player swung the bat",
            "he hit the ball with his bat",
            "the bat was made of wood",
            "she bought a bat and a ball for the game",
        ),
        (
            "the bat flew out of the cave",
            "a bat hung upside down in the dark",
            "the bat caught insects at night",
            "the wings of the bat were black",
        ),
    ),
    "bark": (
        (
            "the bark of the tree was rough",
            "the deer ate the bark of the oak",
            "insects lived under the bark",
            "the bark fell off the old trunk",
        ),
        (
            "the bark of the dog woke us",
            "we heard a loud bark behind the gate",
            "his puppy has a high bark",
            "the dog answered with a bark",
        ),
    ),
    "spring": (
        (
            "the flowers open in spring",
            "spring comes after winter",
            "the birds return every spring",
            "last spring it rained all april",
        ),
        (
            "the spring in the mattress is broken",
            "a metal spring holds the lid",
            "the spring in the watch snapped",
            "the child pressed the spring and the toy jumped",
        ),
    ),
    "match": (
        (
            "the team lost the match",
            "they won the match by two goals",
            "the referee stopped the match",
            "we watched the football match",
        ),
        (
            "she lit the candle with a match",
            "he struck a match in the dark",
            "the match burned his fingers",
            "there is one match left in the box",
        ),
    ),
    "seal": (
        (
            "the seal swam under the ice",
            "a seal ate the fish",
            "the seal lay on the rock by the sea",
            "we saw a seal with its pup",
        ),
        (
            "the seal on the letter was broken",
            "the king pressed his seal into the wax",
            "the seal of the bottle leaks",
            "the paper bears the seal of the court",
        ),
    ),
    "ring": (
        (
            "he gave her a gold ring",
            "the ring has a small diamond",
            "she wears a ring on her finger",
            "the ring was too small for his thumb",
        ),
        (
            "the boxer stepped into the ring",
            "the two fighters met in the ring",
            "the crowd cheered around the ring",
            "he was knocked out in the ring",
        ),
    ),
    "trunk": (
        (
            "the elephant lifted its trunk",
            "the elephant drank with its trunk",
            "its long trunk sprayed water",
            "a baby elephant curled its trunk",
        ),
        (
            "the bags are in the trunk of the car",
            "he locked the trunk of the taxi",
            "the trunk holds a spare wheel",
            "she put the shopping in the trunk and drove home",
        ),
    ),
    "nail": (
        (
            "he hit the nail with a hammer",
            "the picture hangs on a nail",
            "a rusty nail stuck out of the board",
            "the nail went through the wood",
        ),
        (
            "she painted her nail red",
            "he bit the nail of his thumb",
            "the nail on her little finger is long",
            "my toe hurts under the nail",
        ),
    ),
    "mouse": (
        (
            "the cat caught the mouse",
            "the mouse ate the cheese",
            "a mouse ran into its hole",
            "the mouse squeaked in the trap",
        ),
        (
            "she clicked the icon with the mouse",
            "the mouse of my computer is broken",
            "he moved the mouse and the screen lit up",
            "he plugged the mouse into the laptop",
        ),
    ),
    "crane": (
        (
            "the crane lifted the steel beam",
            "the crane at the building site is tall",
            "workers drove the crane to the harbour",
            "the crane dropped a load of bricks",
        ),
        (
            "the crane flew over the lake",
            "a crane built its nest in the reeds",
            "the long legs of the crane stood in the water",
            "the crane spread its white wings",
        ),
    ),
    "palm": (
        (
            "the coin lay in his palm",
            "she wrote the number on her palm",
            "he read the lines of my palm",
            "the bird ate from the palm of her hand",
        ),
        (
            "the palm grows near the beach",
            "coconuts fell from the palm",
            "we sat in the shade of a palm",
            "the palm bent in the tropical wind",
        ),
    ),
    "wave": (
        (
            "a wave washed over the deck",
            "the surfer rode the wave",
            "the wave broke on the shore",
            "the ship rolled with every wave",
        ),
        (
            "she answered with a wave of her hand",
            "he gave a friendly wave from the window",
            "with a wave the queen greeted the crowd",
            "a wave goodbye was all she got",
        ),
    ),
    "scale": (
        (
            "she stepped on the scale to check her weight",
            "the scale shows ten kilos",
            "she put the flour on the scale",
            "the scale in the shop is exact",
        ),
        (
            "the singer practised the scale",
            "she played the scale of c on the piano",
            "the pupil sang a scale for the music teacher",
            "each note of the scale was clear",
        ),
    ),
    "letter": (
        (
            "the postman brought a letter",
            "she put a stamp on the letter",
            "he sent a long letter to his mother",
            "the letter arrived in a blue envelope",
        ),
        (
            "the word begins with the letter k",
            "the letter z is the last of the alphabet",
            "the child learned to write the letter b",
            "one letter of the word was wrong",
        ),
    ),
    "pen": (
        (
            "he signed with a pen",
            "the pen ran out of ink",
            "she wrote her name with a blue pen",
            "he lent me a pen and some paper",
        ),
        (
            "the sheep stood in the pen",
            "the farmer closed the pen",
            "the pigs broke out of the pen",
            "the pen behind the barn held ten goats",
        ),
    ),
    "star": (
        (
            "the star shone in the night sky",
            "a bright star rose over the hills",
            "the telescope showed a distant star",
            "our sun is a star",
        ),
        (
            "the star signed autographs for her fans",
            "the star of the movie won a prize",
            "a famous star sang on the stage",
            "reporters chased the star to the hotel",
        ),
    ),
    "plant": (
        (
            "she waters the plant every day",
            "the plant has green leaves",
            "the plant grew in a pot",
            "she cut the flowers from the plant",
        ),
        (
            "the plant makes cars",
            "two hundred workers left the plant",
            "the plant produces steel",
            "smoke rose from the chemical plant",
        ),
    ),
    "cold": (
        (
            "he caught a cold and sneezed",
            "he took the medicine for his cold",
            "her cold got worse and she coughed",
            "the nurse said it was only a cold",
        ),
        (
            "the cold froze the lake",
            "she wore gloves against the cold",
            "the cold of the winter night hurt",
            "the tent did not keep out the cold",
        ),
    ),
    "rock": (
        (
            "he climbed the steep rock",
            "a rock fell from the cliff",
            "the goat jumped onto the rock",
            "the boat hit a rock under the water",
        ),
        (
            "the band plays rock",
            "she listens to rock on the radio",
            "rock was loud at the concert",
            "his guitar was made for rock",
        ),
    ),
}
