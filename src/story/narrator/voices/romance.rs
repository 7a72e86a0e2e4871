//! For two in the front seats.

use super::{Chapter, Thread, Voice};

pub(super) static VOICE: Voice = Voice {
    threads: &[
        Thread {
            lead: Chapter::Near,
            titles: &[
                "Two for {name}",
                "Side by Side to {name}",
                "The Front Seats, and {name}",
            ],
            open: &[
                "Two people in a car look the same way for hours. It may be the best arrangement ever made for talking. Let us put something at the end of the view: {name}.",
                "There is a kind of silence that belongs to two people on a long road, and it is worth more than most conversations. I shall only interrupt it to tell you about {name}.",
            ],
            turns: &[
                "The road runs on, and so does the tale.",
                "Let another mile go by.",
                "There is more, if you are both still listening.",
                "And something else, since we have the time.",
            ],
            away: &[],
            close: &[
                "You need not do anything with all this. Let it lie between you, like a coat on the back seat. {name} will come nearer all by itself, and you are already where you want to be.",
                "That was {name}, as far as it can be told from outside. The inside of a place is always made of who was there with you.",
            ],
        },
        Thread {
            lead: Chapter::Names,
            titles: &["A Letter About {name}", "Dear Heart, {name}", "Write to Me from {name}"],
            open: &[
                "Suppose a letter had been left in the glove compartment, folded small, with one line on the outside: read this to me on the way to {name}. Here is what it might say, and every figure in it is true.",
                "People used to write to each other from places like {name}, and they would begin with the plain things, where it is and how far, because the other things were harder to say. Let us begin that way too.",
            ],
            turns: &[
                "The letter goes on.",
                "There is another page.",
                "A little lower the ink is darker.",
                "And then, as if it had just come to mind.",
            ],
            away: &[],
            close: &[
                "There the letter ends, without a signature, because it does not need one. Keep it. Some day one of you will say {name}, and the other will know the rest.",
                "And at the bottom, where the paper was running out: I wish you were here. But you are. You are both on the way to {name}, and the letter can be put away.",
            ],
        },
        Thread {
            lead: Chapter::Sky,
            titles: &[
                "The Light at {name}",
                "An Evening Near {name}",
                "Until the Stars, {name}",
            ],
            open: &[
                "All love stories need a light. Candles have been used, and the moon more than is good for it. For {name} I would choose the sun, which has so much of it and asks for nothing.",
                "Somebody once said that to know a place you have to see it at evening. Until we can, let me tell you about the light that {name} lives by.",
            ],
            turns: &[
                "The light changes.",
                "The afternoon is long.",
                "Stay a little; there is more.",
                "One thing leads to another, as it does.",
            ],
            away: &[
                "And under that light?",
                "Come down from the sky for a moment.",
                "The day has other things to show.",
            ],
            close: &[
                "Some evening, here or elsewhere, the two of you will watch it get dark and think of nothing at all. Then {name} will have done what it could.",
                "The light goes from {name} as it goes from everywhere, slowly, and then all at once. It is a good moment to look to the side, at the one in the next seat.",
            ],
        },
        Thread {
            lead: Chapter::Globe,
            titles: &[
                "The Long Way to {name}",
                "As Far as {name}",
                "From {name}, All the Way Round",
            ],
            open: &[
                "The world is large, and it has often been pointed out how unlikely it is to find anybody in it. You two have managed that part. So finding {name} ought to be easy.",
                "Lovers and geographers have one thing in common: they think a good deal about distance. This is about the distances of {name}, and about how they shrink.",
            ],
            turns: &[
                "How large it all is.",
                "And again a distance, and again a way across it.",
                "Still the road goes on.",
                "It goes further than that.",
            ],
            away: &["Closer now.", "Measure something smaller."],
            close: &[
                "So much space, in all directions, around {name}; and two seats, with a hand's breadth between them. Of all the distances in this story it is the one that matters.",
                "That is how far everything is from {name}. It is a comfort, really. With a whole globe to be apart on, you are going there together.",
            ],
        },
        Thread {
            lead: Chapter::People,
            titles: &[
                "Someone in {name}",
                "Strangers in {name}",
                "Everyone, and {name}, and You",
            ],
            open: &[
                "Every light in every window belongs to somebody. When you come to {name}, there will be people who have lived there all along without knowing you. This is about how many, and how near, and how far.",
                "Think of all the places where you have not met. {name} may be one of them. It has been there all this while, with everything it has, waiting for nobody in particular.",
            ],
            turns: &[
                "Still, it is good to know where one is.",
                "There is more that one might know.",
                "Go on; nobody is listening but you two.",
            ],
            away: &[
                "Among so many, one would pass unseen.",
                "Then let the numbers go.",
                "It is never only about numbers.",
            ],
            close: &[
                "Of all these people, in {name} and around it, none will remember that you passed. Let that be your secret. Two are enough to keep it.",
                "Somewhere in {name} two others may be setting out at this very moment, for wherever you have come from. Wave, if you like. One never knows.",
            ],
        },
        Thread {
            lead: Chapter::Ground,
            titles: &["Somewhere Called {name}", "Leave Me at {name}", "{name}, If You Like"],
            open: &[
                "Let me ask you both something. If you could stop anywhere at all, with no luggage and no plans, would you know the place when you saw it? Say that it is {name}. Say it only to try how it sounds.",
                "There are places one goes to and places one goes through. Which of them {name} will be for you is not settled yet. It depends, a little, on how it is told.",
            ],
            turns: &[
                "Try the thought a little longer.",
                "What else ought one to know about a place like that?",
                "It is easily said, and nice to hear.",
                "Suppose one stayed.",
            ],
            away: &[],
            close: &[
                "So: through, or to? You have until the turning to decide. {name} does not mind either way, but it is there, and so are you, and it does not happen every day.",
                "Say it once more, {name}, and see whether it sounds any different now. Things do, when one knows where they belong.",
            ],
        },
    ],
    enter: [
        &[
            "Around it there is a country.",
            "It belongs, as we all do, to something larger.",
            "Let the map open a little.",
        ],
        &[
            "And there are the others.",
            "Nobody is alone there, or everybody is.",
            "How many hearts would that be?",
        ],
        &[
            "What is near it?",
            "It has its neighbours, close or not.",
            "From there one could go on.",
        ],
        &[
            "Then the name itself.",
            "Listen to the word for a moment.",
            "Names are what we hold things by.",
        ],
        &[
            "And the light?",
            "Think of the sky above it.",
            "There is always the sky.",
        ],
        &[
            "And all around that, the whole round world.",
            "Further, then, as far as one can go.",
            "The Earth is not so large as lovers think.",
        ],
    ],
    asides: &[
        "It is good to know such a thing together.",
        "One of you should remember it.",
        "Let that stand for a while.",
        "There is no hurry.",
        "How quiet a number can be.",
        "Some figures are better spoken softly.",
    ],
};
