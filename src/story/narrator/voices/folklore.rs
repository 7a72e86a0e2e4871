//! Told as a fireside tale, with the imagined parts named as imagined.

use super::{Chapter, Thread, Voice};

pub(super) static VOICE: Voice = Voice {
    threads: &[
        Thread {
            lead: Chapter::Near,
            titles: &[
                "The Rider of {name}",
                "A Rider Came to {name}",
                "The Horse That Knew {name}",
            ],
            open: &[
                "Once upon a time, the tale might go, a rider came to {name} on a tired horse and asked the way. The rider I have made up, and the horse with him. The way, and every mile of it, is true.",
                "Let us put a rider into this story, since every tale by the fire needs one. He is imagined, from hat to spurs. But he is riding to {name}, and he can only meet what is really there.",
            ],
            turns: &[
                "The rider nodded, and rode on.",
                "What else did the rider want to know?",
                "Then the rider drew rein and asked again.",
                "The horse, being imagined as well, was not yet tired.",
            ],
            away: &[],
            close: &[
                "And the rider? He was never there. But {name} was, and all those miles were, and if you listen closely at the next bend, you might well imagine hoofs.",
                "So the rider comes to {name} at last, tips his hat, and fades away, as made-up people do when the fire burns low. The facts he leaves with you. They never fade.",
            ],
        },
        Thread {
            lead: Chapter::Names,
            titles: &[
                "The Three Gifts of {name}",
                "What {name} Was Given",
                "At the Naming of {name}",
            ],
            open: &[
                "When a place is born, so one could tell it, three visitors come to the cradle. The first gives it a name, the second a spot to stand on, and the third its share of light. No such thing was ever seen. But {name} has all three gifts, and you shall hear what they are.",
                "In the sort of tale that grandmothers tell, nothing may enter until it has said its name. So come in, {name}, and sit by the fire. We have heard of you. Now we would like to hear the truth.",
            ],
            turns: &[
                "That was a good gift; but there were others.",
                "The fire crackles, in our minds at least. Go on.",
                "And what came after?",
                "Put on another log, and listen.",
            ],
            away: &[],
            close: &[
                "Those were the gifts, and the visitors, whom we imagined, have gone home. {name} still has everything that they brought. It is more than most of us know about the place where we live.",
                "The fire is low. The visitors we made up, {name} we did not. If you ever tell it further, change the visitors as you please, but leave the numbers as they are.",
            ],
        },
        Thread {
            lead: Chapter::Globe,
            titles: &[
                "The End of the World, and {name}",
                "Beyond {name}, Dragons",
                "Seven Seas from {name}",
            ],
            open: &[
                "On the oldest kind of map, or so we like to imagine, the world had an edge, and there were dragons past it. Let us start from {name}, and see how far we get before the first dragon.",
                "There was once a child, in a tale that I am making up as we drive, who asked: where does the world stop? And someone wise answered: go and stand in {name}, and look.",
            ],
            turns: &[
                "No dragon so far.",
                "On the tale goes, and the world with it.",
                "Further still, said the wise one.",
                "Now mark the next thing well.",
            ],
            away: &[],
            close: &[
                "So there was no edge, and the dragons were only ever ink. Go far enough from {name}, and you come back to {name}. It is the best trick the world knows.",
                "And the child understood, and so the made-up tale ends: the world stops nowhere. It begins, though, in all sorts of places, and one of them is {name}.",
            ],
        },
        Thread {
            lead: Chapter::Sky,
            titles: &[
                "The Lamp over {name}",
                "How {name} Got Its Light",
                "Sun and Stars at {name}",
            ],
            open: &[
                "They might have told it like this, long ago: that the sun is a lamp, and somebody carries it. Each place gets a visit, some longer, some shorter. We know better, and yet it is a good way to ask how much light comes to {name}.",
                "Sun and Night, to make up a tale on the spot, once sat down to share out the hours of {name}. They quarrelled for a year, and they are still at it. You can look up how matters stand.",
            ],
            turns: &[
                "So the tale goes round, like the light.",
                "When that had been settled, another matter came up.",
                "The tale has not ended.",
                "Move closer to the fire, and hear the rest.",
            ],
            away: &[
                "But a lamp is only as good as what it shines on.",
                "And what did the lamp reveal?",
            ],
            close: &[
                "And so the light goes over {name}, and returns, and nobody carries it, or else the whole Earth does. Tell it whichever way you like. The hours come out the same.",
                "The quarrel of Sun and Night goes on, in the tale, to this day. In {name}, meanwhile, they draw the curtains or they do not, and the world turns. Good night to them, when it comes.",
            ],
        },
        Thread {
            lead: Chapter::People,
            titles: &[
                "The Counting of {name}",
                "Nobody Could Count {name}",
                "The Tale of the Tally-Stick",
            ],
            open: &[
                "There was a king in a story once who wished to know how many people he had. He is invented; such kings always are. Suppose that he sent his cleverest servant to {name}, with a stick and a knife to cut the notches.",
                "Some say that it brings bad luck to count your own. So let a stranger do it, a stranger out of a tale, who comes to {name} by night and is gone by morning. I invented the stranger. The tally is real.",
            ],
            turns: &[
                "Another notch in the stick.",
                "The tally was not finished with that.",
                "Wait, said the one with the stick, there is more.",
                "And the notches ran on.",
            ],
            away: &[],
            close: &[
                "The stick was full, and in the tale it was thrown into the fire, since what use is a number to a king? But we have read it first. You carry the tally of {name} with you now.",
                "Thus was {name} counted, and it brought no bad luck that I have heard of. The stranger is back in the world of tales. The notches, it turns out, are still there.",
            ],
        },
        Thread {
            lead: Chapter::Ground,
            titles: &[
                "Three Questions at {name}",
                "The Gatekeeper of {name}",
                "A Riddle for {name}",
            ],
            open: &[
                "Imagine a gate across the road, where no gate is, and a keeper with a lantern. Nobody comes to {name}, says the keeper, who cannot answer me. What do you know of the place? Luckily we have come prepared.",
                "An old tale needs three questions, and here they are. Where is it? Who is there? What lies beyond? Whoever can answer all three for {name} may pass, in the tale. On the road you may pass in any case.",
            ],
            turns: &[
                "Well answered; but the lantern is raised again.",
                "There is a further question.",
                "What more, the tale would like to know, is there to tell?",
                "Listen, because this may be asked as well.",
            ],
            away: &[],
            close: &[
                "The keeper steps aside. There never was a keeper, or a gate, but the answers were good ones, every one of them, and {name} lies open before you.",
                "That makes three questions answered, and a few more for good measure. Pass on to {name}, then, and if somebody by the road lifts a lantern to you, lift a hand in return.",
            ],
        },
    ],
    enter: [
        &[
            "Hear first of the realm around it.",
            "Every place in a tale lies in some kingdom or other, even where there is no king.",
            "Whose land was it?",
        ],
        &[
            "Who lived there, then?",
            "Now to the people, without whom there is no tale.",
            "Many or few? That must be told too.",
        ],
        &[
            "Around it lay other places, as they still do.",
            "And who were the neighbours?",
            "From the door, the roads led on.",
        ],
        &[
            "A name is never told once only.",
            "There is power in names, the old tales say.",
            "And what did they call it?",
        ],
        &[
            "Over all of it went the sun.",
            "Of the light one must speak softly.",
            "Then look to the heavens, as people in tales do.",
        ],
        &[
            "Now the tale grows wide.",
            "Beyond the hills, if hills there were, the world went on.",
            "And at the end of all roads?",
        ],
    ],
    asides: &[
        "That is no tale; it is so.",
        "This much is true.",
        "Believe it, for it has been measured.",
        "So it was set down, and so I tell it.",
        "No one needed to invent that.",
        "And there the numbers keep their word.",
    ],
};
