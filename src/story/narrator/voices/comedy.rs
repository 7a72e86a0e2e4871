//! Dry jokes that never bend a fact.

use super::{Chapter, Thread, Voice};

pub(super) static VOICE: Voice = Voice {
    threads: &[
        Thread {
            lead: Chapter::Ground,
            titles: &[
                "{name}: The Brochure",
                "Visit {name}, It Is There",
                "Not Yet a Brochure for {name}",
            ],
            open: &[
                "If I were writing the brochure for {name}, I would be obliged to call it a land of contrasts. Every place in every brochure is. But I have only numbers, and numbers cannot smile for the camera.",
                "Welcome to the only guide to {name} that recommends no restaurant. This is not modesty. I have a gazetteer, it contains no restaurants, and I refuse to make one up.",
            ],
            turns: &[
                "The brochure would print the following in italics.",
                "Page two, after the picture of a sunset.",
                "The small print is where it gets interesting.",
                "No brochure would tell you this.",
            ],
            away: &[],
            close: &[
                "That concludes the brochure. {name} is a place with facts, a number of which you have now heard, and I am told that there is also something to see. Wear comfortable shoes.",
                "Five stars for {name}, then, one for every fact that you are still going to remember at dinner. If it is two, nobody will count.",
            ],
        },
        Thread {
            lead: Chapter::Near,
            titles: &[
                "Recalculating {name}",
                "In One Mile, {name}",
                "Turn Around Where Possible, {name}",
            ],
            open: &[
                "The voice in the navigation knows the way to {name}. It knows no reason to go there. I am the other voice. I will not tell you when to turn, and we shall get on splendidly.",
                "At some point today a calm voice will say that you have arrived. It says so to everyone. Before that happens at {name}, let us find out where on earth that is.",
            ],
            turns: &[
                "In two hundred metres, another fact.",
                "Recalculating.",
                "Please keep left, metaphorically.",
                "If possible, do not make a U-turn now.",
            ],
            away: &[],
            close: &[
                "You have reached the end of the story. {name} is on the left, or on the right, or in front; I told you that turns were not my department.",
                "And now I give you back to the other voice, the one that knows the exits. It has never once asked how you liked {name}. I should like to know.",
            ],
        },
        Thread {
            lead: Chapter::People,
            titles: &[
                "And the Award Goes to {name}",
                "{name} Accepts the Prize",
                "A Ceremony for {name}",
            ],
            open: &[
                "Ladies, gentlemen, and whoever is asleep in the back: good evening, and welcome to the awards. There is one nominee tonight, {name}, which takes some of the tension out of it.",
                "The jury has met, and it consisted of me. The prize for the place most worth talking about in the next few minutes goes to {name}. Please hold your applause; the driver needs both hands.",
            ],
            turns: &[
                "The next category.",
                "The envelope, please.",
                "The jury found this next one difficult.",
                "And in a supporting role.",
            ],
            away: &[],
            close: &[
                "{name} would like to thank its latitude, its longitude, and everybody who counted. It is deeply moved, at the rotational speed of the Earth. Good night.",
                "That was the ceremony. {name} takes home the prize, or would, if it were not at home already. That is the advantage of being a place.",
            ],
        },
        Thread {
            lead: Chapter::Names,
            titles: &[
                "The Committee on {name}",
                "Any Other Business: {name}",
                "Minutes of {name}",
            ],
            open: &[
                "Picture a committee. It has met to decide what should be said about {name}, it has biscuits, and it is in no hurry. I have its minutes here. I also made up the committee, but not the findings.",
                "All agree that something must be said of {name}. Nobody can agree on what. So the imaginary committee on places has done what committees do, and collected figures.",
            ],
            turns: &[
                "The committee moves to the next item.",
                "A hand goes up at the back.",
                "The chair calls for order, and for more biscuits.",
                "It is proposed, and seconded, to continue.",
            ],
            away: &[],
            close: &[
                "There being no other business, the meeting on {name} is closed. The facts stay where they are. The biscuits, I regret to say, were imagined from the start.",
                "Resolved: that {name} exists, that it is where it is, and that somebody ought to go and see. The motion was carried, by car.",
            ],
        },
        Thread {
            lead: Chapter::Sky,
            titles: &[
                "An Expert on {name}",
                "Ask Me About {name}",
                "{name}, Explained at Length",
            ],
            open: &[
                "There is one in every car: the person who knows about the place. Until this moment nobody could say who it was. By the end of this it is going to be you, and the place is {name}. Use your power sparingly.",
                "What do you need in order to be an expert on {name}? A confident voice and a handful of figures. You bring the voice. I have checked the figures.",
            ],
            turns: &[
                "An expert would pause here, and then go on.",
                "For the advanced student.",
                "Say this one slowly, looking into the distance.",
                "The following works well at dinner.",
            ],
            away: &[],
            close: &[
                "You are now an expert on {name}. There will be no certificate. You will know it by the silence in the car when you begin a sentence with the word actually.",
                "That is everything an expert on {name} needs, and rather more than anybody will ask. If they do ask something else, point at the horizon and change the subject.",
            ],
        },
        Thread {
            lead: Chapter::Globe,
            titles: &[
                "Complaints About {name}",
                "To Whom It May Concern in {name}",
                "{name}: A Fair Review",
            ],
            open: &[
                "Reviews of places are written by people whose soup was cold. I have had no soup, in {name} or anywhere, so you are about to hear the first perfectly fair review of it.",
                "I have looked for something to complain about in {name}, using only its position on the globe. It is harder than you think. Here is what I found.",
            ],
            turns: &[
                "The reviewer would like to add something.",
                "One star more for the following.",
                "Some visitors may find this next part a bit precise.",
                "In fairness it must be said.",
            ],
            away: &[],
            close: &[
                "Would I go to {name} again? I have never been; I have no legs. But on the evidence of the figures, I should say the position is excellent and the planet well chosen.",
                "Summary: {name} is located, beyond all doubt. Anything else depends on the soup, and on that point the next review will have to be yours.",
            ],
        },
    ],
    enter: [
        &[
            "First, a word about the management.",
            "Now for the country, which comes with the place at no extra charge.",
            "About the surroundings, in the administrative sense.",
        ],
        &[
            "On the subject of people.",
            "Somebody has counted everyone, presumably with a clipboard.",
            "And the audience figures are in.",
        ],
        &[
            "And next door?",
            "You cannot choose your neighbours, and neither can places.",
            "Distances, then, for those who like to be late precisely.",
        ],
        &[
            "The name has been looked into.",
            "A note on pronunciation: good luck.",
            "Now, the paperwork on the name.",
        ],
        &[
            "The sun, for its part, has a schedule.",
            "Meanwhile, overhead.",
            "A word about the lighting.",
        ],
        &[
            "For the larger picture, please imagine a larger picture.",
            "On a planetary scale it all makes sense, somewhat.",
            "Seen from space, which is a long way to go for a view.",
        ],
    ],
    asides: &[
        "Nobody has complained so far.",
        "I do not make the rules.",
        "This is all perfectly normal.",
        "You did not ask, but now you know.",
        "Make of that what you will.",
        "There was no budget for a better figure.",
    ],
};
