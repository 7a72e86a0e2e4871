//! The road ahead, told as a quest.

use super::{Chapter, Thread, Voice};

pub(super) static VOICE: Voice = Voice {
    threads: &[
        Thread {
            lead: Chapter::Near,
            titles: &[
                "The Needle Points to {name}",
                "By Compass to {name}",
                "{name}, Bearing by Bearing",
            ],
            open: &[
                "Take an imaginary compass out of an imaginary pocket and hold it level. The needle swings, hesitates, settles. Today it has one thing to say, and that is {name}.",
                "There are two ways to arrive anywhere: you follow the signs, or you know where you are. For {name} we shall try the second, with nothing but a compass and some honest numbers.",
            ],
            turns: &[
                "Check the compass again.",
                "The needle swings on.",
                "Hold the compass steady, because the next bearing is a good one.",
                "Another bearing, then.",
            ],
            away: &[],
            close: &[
                "So fold the compass away. You know now what lies on every side of {name}, and a person who knows that is never quite lost, only early.",
                "The needle has come to rest. Whatever the signs say from here on, you have {name} by its bearings, and no wrong turning can take that from you.",
            ],
        },
        Thread {
            lead: Chapter::Ground,
            titles: &["Logbook: {name}", "First Page for {name}", "An Entry for the Logbook"],
            open: &[
                "Every expedition keeps a logbook, and the best page in it is the first one, when it is still blank and everybody is still brave. Write the heading now: {name}.",
                "Open the logbook, lick the pencil, and put down the name that brought us here: {name}. Below it goes only what we can vouch for. Explorers who exaggerate are found out.",
            ],
            turns: &[
                "A fresh line in the logbook.",
                "The pencil is not yet blunt.",
                "Turn the page.",
                "Underline this next part.",
            ],
            away: &[],
            close: &[
                "Close the logbook there. One page is full, all of it true, and the rest of {name} you will have to fill in with your own eyes.",
                "That is the page on {name}. There is space left at the bottom, and it is meant for whatever you see when you look up.",
            ],
        },
        Thread {
            lead: Chapter::Globe,
            titles: &[
                "{name}, the Long Way Round",
                "To {name} and Beyond the Edge",
                "The Whole Planet, Starting at {name}",
            ],
            open: &[
                "The sensible way to look at {name} is through the windscreen. The bold way is from so high above that the whole planet fits under it. Let us be bold first and sensible later.",
                "An adventure needs room, so we shall give {name} the largest stage there is: the entire globe, turning, with one small pin stuck in it.",
            ],
            turns: &[
                "Pull back a little further.",
                "The stage is wider than it looks.",
                "Keep the pin in view.",
                "From up here, other things come into sight.",
            ],
            away: &[],
            close: &[
                "Now come down again, through all that distance, back into a seat with a belt across it. The planet has not shrunk. But one pin in it, {name}, has your name on the other end.",
                "And that is the globe with {name} in the middle. It could have any other place in the middle, of course. That is the secret which explorers keep: the middle is wherever you are.",
            ],
        },
        Thread {
            lead: Chapter::Near,
            titles: &["X Marks {name}", "The Map Said {name}", "A Treasure Map of {name}"],
            open: &[
                "Suppose somebody pressed a treasure map into your hand and vanished. No legend, no scale, one cross, and beside the cross a word: {name}. What would you want to know before you started digging?",
                "All maps are treasure maps. Most people just do not look at the cross long enough. Our cross is marked {name}, and we have all the time the road gives us.",
            ],
            turns: &[
                "The map has more on it.",
                "Look at the margin of the map.",
                "Follow the dotted line.",
                "Smooth out the next fold.",
            ],
            away: &[],
            close: &[
                "So where is the treasure? You have been collecting it all along. It is the difference between passing a name on a sign and knowing what the name stands among. The cross is at {name}. Dig wherever you like.",
                "Fold the map along its old creases. The cross at {name} is still there, but it is no longer only a cross, and that, as treasure goes, is hard to steal.",
            ],
        },
        Thread {
            lead: Chapter::Sky,
            titles: &[
                "Daylight for {name}",
                "Racing the Sun to {name}",
                "Under the Sky of {name}",
            ],
            open: &[
                "Before petrol there was daylight, and an expedition went exactly as far as the sun allowed. So ask the first question of any old traveller, with {name} ahead: how much light have we got?",
                "Explorers trusted three things: their boots, their friends, and the sky. The boots and the friends are your affair. The sky over {name} is mine.",
            ],
            turns: &[
                "The light shifts, and the road goes on.",
                "There is time enough for more.",
                "Keep one eye on the sky.",
                "Onward.",
            ],
            away: &["So much for the hours; on with the miles."],
            close: &[
                "That is as far as this light takes us. {name} will have its next sunrise without any help from us, as it has had every one so far, and there is something to be said for being there to see it.",
                "The sky asks for no ticket. Wherever you stop at {name}, look up once before you look for the keys. Then the expedition has arrived.",
            ],
        },
        Thread {
            lead: Chapter::People,
            titles: &["Who Goes to {name}?", "The Crew for {name}", "Setting Out for {name}"],
            open: &[
                "Call the roll. One driver, one keeper of the sandwiches, one reader of signs: that is a crew. The goal is {name}, and a crew has a right to be told what it is in for.",
                "Nobody should be led into the unknown without a briefing, so sit up straight in the back. The objective is {name}. Here is what headquarters knows.",
            ],
            turns: &[
                "The briefing continues.",
                "Any questions from the crew? Then onwards.",
                "Next item, and listen closely.",
                "The crew will want this as well.",
            ],
            away: &[],
            close: &[
                "Briefing over. You know as much about {name} as the map does, and the map is not coming along. From here on, the discoveries belong to the crew.",
                "Those are your orders, and they end with a blank space, which is the best kind. Go to {name}, look around, and come back with something that I did not know.",
            ],
        },
    ],
    enter: [
        &[
            "First, the country you are crossing.",
            "Now the ground under the wheels.",
            "Every quest crosses somebody's territory.",
        ],
        &[
            "As for the company you will meet.",
            "How many are there waiting? Here is the count.",
            "No expedition is complete without its people.",
        ],
        &[
            "Now for the neighbours.",
            "What lies within reach?",
            "Time to scout the surroundings.",
        ],
        &[
            "There is also the matter of the name.",
            "A word about the password.",
            "Names can be maps, too.",
        ],
        &["Look up.", "Then there is the sky to reckon with.", "Next, the light."],
        &[
            "Step back from the map, a long way back.",
            "And now the great distances.",
            "Beyond the horizon the figures grow.",
        ],
    ],
    asides: &[
        "Put that in the log.",
        "A good navigator keeps such things in mind.",
        "People have set out with less.",
        "Remember it; it may come in useful.",
        "So far, so good.",
        "Steady as she goes.",
    ],
};
