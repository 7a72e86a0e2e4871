//! Light, latitude, sky and land. No species, no weather, no landscape: the gazetteer holds none.

use super::{Chapter, Thread, Voice};

pub(super) static VOICE: Voice = Voice {
    threads: &[
        Thread {
            lead: Chapter::Sky,
            titles: &[
                "The Light of {name}",
                "How the Days Go at {name}",
                "Sunrise, Noon, {name}",
            ],
            open: &[
                "Everything alive keeps an eye on the light. It is the oldest clock, and nobody has to wind it. To understand {name} as a field or a sparrow would, begin with the sun.",
                "No two places on a meridian have the same day. The light that {name} gets is cut to its own measure, by nothing but its position on a turning, tilted ball.",
            ],
            turns: &[
                "The light moves across the land.",
                "Watch how it all hangs together.",
                "The same sun sees more than this.",
                "There is more, for anyone who waits.",
            ],
            away: &["Under that sky, other things have their places."],
            close: &[
                "Next time you step out of the car, find the sun, and say to yourself how high it stands. It is the one thing that you and everything that lives at {name} have always had in common.",
                "The shadows are moving as you listen. They will move over {name} tomorrow, a little longer or a little shorter. Nothing else there keeps its promises so well.",
            ],
        },
        Thread {
            lead: Chapter::Near,
            titles: &["{name} from Above", "A Bird's Way to {name}", "Over {name}, Gliding"],
            open: &[
                "Picture yourself as a bird. Any bird with long wings and patience will do. Borders have gone from the map, and roads are thin grey lines. Below, there is {name}.",
                "For once, forget the road. A road is only one opinion about how to cross the land. Imagine going straight, through the open air, with {name} below.",
            ],
            turns: &[
                "Let the wings carry you on.",
                "The view widens.",
                "From this height the next thing is plain.",
                "Bank a little, and look down.",
            ],
            away: &[],
            close: &[
                "Fold the wings now. The road has you back, grey and winding. But you have seen {name} as the crow does, and after that a bend is only a bend.",
                "Down again, then, to where the land has a surface. Whatever grows and sings at {name} I have not told you, since the gazetteer does not know. Open the window. It will tell you itself.",
            ],
        },
        Thread {
            lead: Chapter::Globe,
            titles: &[
                "{name} on a Turning Earth",
                "The Latitude of {name}",
                "Where the Earth Keeps {name}",
            ],
            open: &[
                "Hold still for a moment. It is impossible, of course. You are on a planet, and it is turning, and with it goes everything: the trees, the car, and {name}.",
                "Latitude is destiny, as far as the sun is concerned. Tell a plant its latitude, and it knows most of what there is to know about its year. Here is what {name} has been told.",
            ],
            turns: &[
                "The Earth turns on a little.",
                "Follow the curve of it.",
                "There is more to a position than a line.",
                "Nothing holds still for long.",
            ],
            away: &["And nearer the ground?"],
            close: &[
                "All the while we were talking, the Earth has been turning. {name} is not where it was in space when this story began, and neither are you. It is the gentlest of journeys.",
                "So the planet carries {name}, and all its company, towards one more morning. There is no need to do anything about it. Just notice it now and then.",
            ],
        },
        Thread {
            lead: Chapter::Ground,
            titles: &["The Land Around {name}", "Ground and Sky at {name}", "Room for {name}"],
            open: &[
                "Land does not know its own name. It lies there under the sky and lets itself be called things. One stretch of it has been called {name}, and we can at least find out how it lies.",
                "Take away the signs for a moment, and the numbers on the roads. What is left of {name}? A spot on the ground, some distance from all the other spots, and the sky over it.",
            ],
            turns: &[
                "The ground goes on in all directions.",
                "Nothing on the land stands by itself.",
                "Let the eye go further.",
                "There is order even in open country.",
            ],
            away: &[],
            close: &[
                "Put the signs back up again; one needs them. But when you read {name} on one of them, think of the bare ground beneath, and of how long it managed without being called anything.",
                "What I cannot tell you is how it smells there after rain, or what moves in the hedges, if there are hedges. It is left out because it is yours to find. {name} is patient.",
            ],
        },
        Thread {
            lead: Chapter::People,
            titles: &[
                "The Creatures of {name}",
                "One Species in {name}",
                "Who Nests at {name}",
            ],
            open: &[
                "There is one animal that we can count quite well. It builds, it is active by day, and it gathers at places like {name}. You may know a few of them. Let us start with that one.",
                "A naturalist who comes to a new spot sits down and waits. Who lives here, how many, and how close together? Let us sit down beside {name}, in our minds, and take notes.",
            ],
            turns: &[
                "The notebook has room for more.",
                "Sit still; there is more to see.",
                "Write that beside it.",
                "A patient observer would also note this.",
            ],
            away: &[],
            close: &[
                "The notes on {name} end here. They hold one species and a good deal of geometry. As for the rest, the ones with wings and the ones with roots, they have never been asked to fill in a form.",
                "Close the notebook quietly. The life of {name} goes on with nobody counting, as it did through all the time before numbers were thought of.",
            ],
        },
        Thread {
            lead: Chapter::Sky,
            titles: &[
                "A Year at {name}",
                "The Seasons Pass {name}",
                "Round the Sun with {name}",
            ],
            open: &[
                "A year is a long walk round the sun, and it never gets anywhere but back. {name} has made that walk more often than anyone can say. Let us go once round with it.",
                "If you stayed in one spot and did not move for a year, the whole world would come past: long days, short days, the stars of every month. Suppose that you chose {name}.",
            ],
            turns: &[
                "The year moves on.",
                "Another month, another look.",
                "The walk goes on.",
                "There is always something else to see.",
            ],
            away: &[
                "Meanwhile, all around.",
                "A season is only half of a place.",
                "Look from the sky to the ground.",
            ],
            close: &[
                "And there the circle closes. A year at {name} ends where it started, with the same light at the same slant, and everyone a little older.",
                "Once round, and back again. You may pass through {name} in minutes, but it will be somewhere on that long walk when you do. See if you can tell how far it has got.",
            ],
        },
    ],
    enter: [
        &[
            "What land is it part of?",
            "The ground it stands on has an owner, on paper.",
            "Look at the country as a whole.",
        ],
        &[
            "People live here as well.",
            "Now count the lights.",
            "The habitat is shared.",
        ],
        &[
            "What lies around it?",
            "Let the gaze wander outwards.",
            "From there the land leads on.",
        ],
        &[
            "We have given it names, as we do.",
            "The spot has been called things.",
            "Then there is the sound of the word.",
        ],
        &[
            "The sky above is particular to the spot.",
            "Now for the sun.",
            "Everything turns on the light.",
        ],
        &[
            "See the whole curve of the Earth.",
            "The planet has a say in this.",
            "And now from a great height.",
        ],
    ],
    asides: &[
        "It has gone on like that for ages.",
        "The land takes no notice.",
        "One could watch that for a long time.",
        "Nothing about it is in a hurry.",
        "It is as simple as that, and as large.",
        "No one arranged it.",
    ],
};
