//! How we know: the geometry of the globe, measured.

use super::{Chapter, Thread, Voice};

pub(super) static VOICE: Voice = Voice {
    threads: &[
        Thread {
            lead: Chapter::Globe,
            titles: &["Experiment: {name}", "{name} Under the Lens", "Method and {name}"],
            open: &[
                "Here is an experiment for a moving car. Take one place, {name}, and find out as much as you can about it without getting out, using only its position and a little geometry. It is surprising how far that goes.",
                "Give a scientist two numbers, a latitude and a longitude, and leave the room. When you come back, there will be rather a lot on the blackboard. The two numbers today belong to {name}.",
            ],
            turns: &[
                "Next line on the blackboard.",
                "The calculation continues.",
                "From there it follows quickly.",
                "Vary one thing, and look again.",
            ],
            away: &[],
            close: &[
                "That is what geometry yields. Everything beyond it, what {name} looks like and why people stay, calls for another instrument: you, on the spot, with your eyes open.",
                "Wipe the board. What has been shown is how much follows from how little. What remains to be shown is {name} itself, and for that one has to leave the laboratory.",
            ],
        },
        Thread {
            lead: Chapter::Near,
            titles: &["Measuring {name}", "A Ruler for {name}", "{name}, Plus or Minus"],
            open: &[
                "To measure is to compare a thing with something you know already. You know the road, and you know about how long an hour is. That is enough to begin measuring {name}.",
                "Every measurement needs an origin, a point from which all the rest is counted. It may be put anywhere. For the next few minutes it is at {name}.",
            ],
            turns: &[
                "A second measurement always helps.",
                "Change the scale.",
                "The ruler is long enough for more.",
                "One more data point.",
            ],
            away: &[],
            close: &[
                "So the ruler goes back into the drawer. All these distances are great circles on a sphere, rounded for the ear; the last few metres to {name} you will have to measure yourself.",
                "Every number you have heard has an error bar, the way every traveller has a coat. They agree, all the same, on where {name} is. That is what makes them a result.",
            ],
        },
        Thread {
            lead: Chapter::Sky,
            titles: &[
                "The Celestial Mechanics of {name}",
                "{name} and Its Star",
                "An Observatory at {name}",
            ],
            open: &[
                "The nearest star to {name} is about 150 million kilometres away, and it runs nearly everything. You will have noticed it through the windscreen. Let us see what it does.",
                "All of astronomy began with people standing in one spot and writing down what they saw. Let that spot be {name}. You will not need a telescope for any of this.",
            ],
            turns: &[
                "The model has more to predict.",
                "Keep that in mind for the next step.",
                "Next observation.",
                "The log has another line.",
            ],
            away: &[
                "That was the sky; there are other data.",
                "Apply the same reasoning lower down.",
            ],
            close: &[
                "A prediction to end with: the sun will rise over {name} again whenever the geometry says so, to the minute. Very few statements about any place are as safe as that.",
                "All this follows from one tilted axis and one number, the latitude. The rest of what goes on at {name} is called life, and it is harder to compute.",
            ],
        },
        Thread {
            lead: Chapter::People,
            titles: &["{name}, Statistically", "The Data on {name}", "A Sample of One: {name}"],
            open: &[
                "One place is not a statistic. But it can be set against all the others, and then it begins to speak. Here is {name}, a sample of one, with everything that the data will bear.",
                "Suppose that you knew nothing about {name} but its row in a table. Name, position, a count or two. How much could you honestly say? Let us find out, and stop where the data stop.",
            ],
            turns: &[
                "There is another variable.",
                "Plot that against the next.",
                "The table has more columns.",
                "Is that much or little? Compare.",
            ],
            away: &[],
            close: &[
                "Here the data stop, and so do I. A row in a table is not a place. But a well-read row is a good reason to go and see {name}, and to find out what nobody has tabulated.",
                "The conclusion is modest, as conclusions should be. {name} is consistent with everything known about it. Further observation, by car, is recommended.",
            ],
        },
        Thread {
            lead: Chapter::Ground,
            titles: &[
                "First Principles of {name}",
                "{name} from Scratch",
                "What Can Be Known of {name}",
            ],
            open: &[
                "Start from nothing, as one ought to. What do we actually know about {name}, how do we know it, and could we check? Three good questions, and they fit on a motorway.",
                "The most useful sentence in science is: how do you know? Keep on asking it during the next few minutes, while I tell you things about {name}. I think that the answers will hold.",
            ],
            turns: &[
                "And how do we know? Somebody measured. Go on.",
                "It can be checked, and so can this.",
                "Another thing that holds up.",
                "On to the next claim.",
            ],
            away: &[],
            close: &[
                "How do you know? Now you can answer that. A count, a sphere, an angle and a little patience: they suffice for a first sketch of {name}. The second you will make yourself, by looking.",
                "So it was possible after all to say something about {name} without guessing. It feels rather good, does it not? That feeling is why people become scientists.",
            ],
        },
        Thread {
            lead: Chapter::Globe,
            titles: &[
                "A Thought Experiment at {name}",
                "Suppose We Are at {name}",
                "{name} in the Mind's Laboratory",
            ],
            open: &[
                "The cheapest laboratory in the world is the inside of a head. It has room for planets, and nothing in it can be broken. Put a small globe in yours, and a mark on it for {name}.",
                "Einstein rode a light beam, though only in thought. We may allow ourselves a car. Suppose, then, that we stand at {name}, and that anything which does no violence to the facts is permitted.",
            ],
            turns: &[
                "The thought may be taken further.",
                "Suppose again.",
                "Back to the mark on the globe.",
                "What would an instrument have shown?",
            ],
            away: &[],
            close: &[
                "You can put down the globe now. Nothing was used up. {name} is exactly as it was, while you have a rather better idea of where on the planet you are talking about.",
                "That was the experiment. It took place in thought, and only the numbers were real. The next one, at {name}, will have it the other way round.",
            ],
        },
    ],
    enter: [
        &[
            "Begin with the boundary conditions.",
            "Then the larger system of which it is a part.",
            "The country first, as context.",
        ],
        &[
            "Population is a countable quantity, so count.",
            "Now a few head counts.",
            "Consider the inhabitants as a number.",
        ],
        &[
            "Distances can be measured from here.",
            "As for the nearest neighbours.",
            "Next, the local neighbourhood.",
        ],
        &[
            "Labels are data too.",
            "The nomenclature is worth a look.",
            "What about the name?",
        ],
        &[
            "Then there is the sun.",
            "Angles and hours are next.",
            "The sky can be predicted from the latitude alone.",
        ],
        &[
            "On a global scale.",
            "Zoom out to the sphere.",
            "Treat the Earth as a ball, which very nearly it is.",
        ],
    ],
    asides: &[
        "Within the limits of rounding, that is.",
        "The method is simple; the result is not obvious.",
        "It can be checked with a piece of string and a globe.",
        "The agreement is good.",
        "One could write that as a formula.",
        "No further assumptions were needed.",
    ],
};
