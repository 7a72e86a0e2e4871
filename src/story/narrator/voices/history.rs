//! Measured, with the figures in the foreground. It claims no events: the gazetteer holds none.

use super::{Chapter, Thread, Voice};

pub(super) static VOICE: Voice = Voice {
    threads: &[
        Thread {
            lead: Chapter::People,
            titles: &["The Ledger of {name}", "{name} in Figures", "An Entry for {name}"],
            open: &[
                "Before there were stories there were lists. Clay, parchment, punched card: somebody always wanted to know what there was, and how many. {name} too is a line in a list, and a line, read slowly, is a story after all.",
                "Historians like a document. The one that I have for {name} is brief: a line in a ledger, a name, a few figures. But every figure in it was once somebody's question.",
            ],
            turns: &[
                "Run a finger further along the line.",
                "The ledger has another column.",
                "The next figure deserves a moment.",
                "There is more in the margin.",
            ],
            away: &[],
            close: &[
                "So much for the ledger. It tells us that {name} was found worth a line, and it leaves the rest, the part that never fits into columns, to whoever stops there and asks.",
                "Close the book on {name}. The figures will be revised one day, as figures are. The habit of writing them down is older than any of them.",
            ],
        },
        Thread {
            lead: Chapter::Names,
            titles: &[
                "What {name} Is Called",
                "The Name of {name}",
                "A Word on the Map: {name}",
            ],
            open: &[
                "The oldest thing about most places is the word for them. Walls are replaced and roads are moved, but people go on saying the name. So let the word come first: {name}.",
                "Say it aloud once: {name}. A place name is the one part of the past that everybody carries about without feeling the weight.",
            ],
            turns: &[
                "The name appears again in other columns.",
                "Follow the entry a little further.",
                "The page is not yet full.",
                "Another line, in the same hand.",
            ],
            away: &[
                "But a name needs something to stand on.",
                "So much for the word; now the thing.",
                "Behind every name there is a position.",
            ],
            close: &[
                "The word is on the next sign, or on the one after. {name}: you have heard now what the records hold to it, and when you say it you will be adding to its age.",
                "That is what stands behind a single word. Others will say {name} after us, and mean more or less the same spot, and that, when one thinks of it, is a remarkable agreement.",
            ],
        },
        Thread {
            lead: Chapter::Near,
            titles: &[
                "Milestones Around {name}",
                "How Far from {name}?",
                "The Roads of {name}, Measured",
            ],
            open: &[
                "A milestone is a modest monument. It commemorates nothing but distance, and yet people have argued over little else as long. Let us set up a few around {name}.",
                "Distance has made more history than most kings. How far to the neighbour, how far to the seat of power, how far to safety: ask it of {name}, and begin.",
            ],
            turns: &[
                "Another stone, a little further on.",
                "The distances add up to a position.",
                "Walk on to the next marker.",
                "One more measurement belongs here.",
            ],
            away: &[],
            close: &[
                "There the stones end. Between them lies {name}, and what happened there I leave to the people who keep its archives, because distance is all that I can swear to.",
                "All milestones say the same thing in the end: so far, and no nearer. For {name}, at least, you now have the exact numbers.",
            ],
        },
        Thread {
            lead: Chapter::Ground,
            titles: &[
                "{name} and Its Country",
                "A Place in the Order of Things",
                "Under Which Flag: {name}",
            ],
            open: &[
                "To understand a place, ask first to whom it answers. Every spot on the map has its superiors, its equals and its rivals, and {name} is no exception.",
                "No place is an island, not even an island. Each belongs to some larger order, of regions and countries and neighbours, and this is the order that {name} belongs to.",
            ],
            turns: &[
                "The order has further ranks.",
                "From the greater to the smaller.",
                "The same place may be seen from another office.",
                "Consider the next rung.",
            ],
            away: &[],
            close: &[
                "That is the position of {name} in the order of things, as of the latest figures. Orders change, and maps are redrawn, but one has to begin with how matters stand.",
                "Such, then, is the standing of {name}. Those who made the lists have gone home for the day; the place itself remains, and is open to visitors.",
            ],
        },
        Thread {
            lead: Chapter::Globe,
            titles: &[
                "{name} on the Globe",
                "The Surveyor's {name}",
                "Latitude, Longitude, {name}",
            ],
            open: &[
                "Imagine the surveyor. Not a hero, merely a careful person with a brass instrument and cold fingers, whose task was to say where things are. This is the report on {name} that such a person might have handed in.",
                "For most of the past nobody could have said exactly where {name} is. Near this, beyond that, so many days away: that was all. We can do better, and it would be ungrateful not to listen.",
            ],
            turns: &[
                "The surveyor turns the instrument.",
                "The report has a second page.",
                "A further reading was taken.",
                "Then come the figures that nobody had asked for.",
            ],
            away: &[],
            close: &[
                "The report ends with a signature that we must imagine. {name} is where it says. It took people some thousands of years to be able to write that sentence.",
                "Pack up the brass and the tripod. {name} has been fixed in its place, and everything else about it is free to change.",
            ],
        },
        Thread {
            lead: Chapter::Sky,
            titles: &[
                "Hours and Years of {name}",
                "The Calendar of {name}",
                "{name} by the Clock",
            ],
            open: &[
                "There is a kind of history that repeats itself exactly. It has no dates but the solstices, and it has been going on over {name} since long before there was a {name} to shine on.",
                "Whoever kept the first calendar looked at the sky from one particular spot. Had it been {name}, here is what would have gone into it.",
            ],
            turns: &[
                "Other columns change more quickly.",
                "The years allow for more.",
                "A further entry.",
                "Let the calendar lie open.",
            ],
            away: &[
                "The calendar is only the frame.",
                "From the hours to the map.",
                "Time, and then place.",
            ],
            close: &[
                "The years go over {name} as they always have, in good order and without comment. Our own part in it is about as long as this story.",
                "That is the clockwork. People came to {name} and set their lives by it, and the records of those lives are kept by others. Ask for them when you get there.",
            ],
        },
    ],
    enter: [
        &[
            "Of the country this much is recorded.",
            "First, the state to which it belongs.",
            "Let us look at the larger entry.",
        ],
        &[
            "The heads have been counted.",
            "As to the population.",
            "Next, the inhabitants, in so far as numbers describe them.",
        ],
        &[
            "Neighbours make half of any history.",
            "The surroundings are on record as well.",
            "Distances, then.",
        ],
        &[
            "The register of names follows.",
            "On the matter of the name.",
            "Names are the oldest documents that we have.",
        ],
        &[
            "The heavens keep their own annals.",
            "One set of records has no gaps: the sun's.",
            "As for the hours.",
        ],
        &[
            "On the scale of the globe the entry reads as follows.",
            "Now the wider frame.",
            "Lastly one may ask where all this stands on the Earth.",
        ],
    ],
    asides: &[
        "So the record stands.",
        "The clerks, one feels, were careful.",
        "Such figures are dry only until one drives through them.",
        "It is worth a footnote.",
        "The source is silent on the reasons.",
        "One notes it without comment.",
    ],
};
