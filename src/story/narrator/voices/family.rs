//! For the back seat: games, counting, wonder.

use super::{Chapter, Thread, Voice};

pub(super) static VOICE: Voice = Voice {
    threads: &[
        Thread {
            lead: Chapter::Near,
            titles: &[
                "The Great Quiz About {name}",
                "Hands Up for {name}",
                "{name}: Who Knows It?",
            ],
            open: &[
                "Welcome to the fastest quiz show on the road! There are no buttons and no prizes, and the host is a voice in a car. Today's subject is {name}. Ready? Seat belts count as stage costumes.",
                "Everybody thinks of a number between one and ten. Keep it secret, because it will not be needed. What we do need is sharp ears, because this is a quiz about {name}.",
            ],
            turns: &[
                "Next round!",
                "The quiz goes on, and the score is whatever you say it is.",
                "Ears open for the next one.",
                "Double points from here.",
            ],
            away: &[],
            close: &[
                "That was our quiz about {name}, and I declare everybody in the car the winner, including the one who is driving and could not put up a hand. The prize is getting out and looking.",
                "End of the quiz! Whoever remembers three things about {name} when the engine stops may be the first one out of the door.",
            ],
        },
        Thread {
            lead: Chapter::Globe,
            titles: &["A Giant Visits {name}", "Big Steps Around {name}", "{name} for Giants"],
            open: &[
                "Imagine a giant. A friendly one, so tall that clouds tickle its knees, out for a walk around the world. It puts its finger down, very gently, beside a dot. The dot is {name}. What can the giant see?",
                "Close your eyes, unless you are driving. You are growing, up through the roof of the car, until the whole Earth looks like a ball. Now find {name} on it.",
            ],
            turns: &[
                "The giant bends down for a closer look.",
                "What else would a giant want to know?",
                "One giant step further.",
                "The giant scratches its head and counts again.",
            ],
            away: &[],
            close: &[
                "And now shrink, shrink, shrink, back into the car, until your feet are exactly as far from the floor as they were. {name} is big again, and you are just the right size to explore it.",
                "The giant waves and walks on; it has the rest of the world to do before supper. We stay down here with {name}, where you can see the small things. Those are the best.",
            ],
        },
        Thread {
            lead: Chapter::Ground,
            titles: &[
                "A Postcard from {name}",
                "Dear Everyone, This Is {name}",
                "Greetings from {name}",
            ],
            open: &[
                "Let us write a postcard, all together, out loud. Dear everyone, we are thinking about {name}. The driver is well. The back seat is hungry again. Now, what shall we tell them?",
                "What would you write home about {name}? Having a lovely time is what everybody writes. We can do much better, because we have facts.",
            ],
            turns: &[
                "There is space on the postcard for more.",
                "New line, same postcard.",
                "Write smaller, there is a lot still to come.",
                "And what else? Oh yes.",
            ],
            away: &[],
            close: &[
                "Now the card is full. Sign your names, draw a sun in the corner, and think of who should get it. Much love, from {name} and all of us.",
                "P.S., as they say on postcards when they run out of room: the best thing about {name} is not on this card yet. You are going to find it, and then you can write the second one.",
            ],
        },
        Thread {
            lead: Chapter::People,
            titles: &["Counting to {name}", "One, Two, {name}", "The Number Game of {name}"],
            open: &[
                "How high can you count? Higher than that? Good, because {name} is made of numbers, if you look at it the right way, and some of them are enormous.",
                "Some people count sheep. We are going to count a whole place, and the place is called {name}. Fingers ready; you may borrow mine if you run out.",
            ],
            turns: &[
                "Here comes another number.",
                "Are your fingers used up? Start again.",
                "Keep counting.",
                "The next one is good for showing off.",
            ],
            away: &[],
            close: &[
                "That is a lot of counting for one car ride. Here is a last one: how many of you are coming along to {name}? Count again, and do not forget the driver.",
                "Which number was your favourite? Say it once more, loudly, so that it stays in. And when somebody asks about {name}, you will have an answer that nobody expects.",
            ],
        },
        Thread {
            lead: Chapter::Sky,
            titles: &["Bedtime in {name}", "The Sun Over {name}", "Good Morning, {name}"],
            open: &[
                "Who gets up first in {name}? Not the baker, if there is one, and not the teacher. It is the sun, and it is not equally early every day. Today we follow it about.",
                "The sun has never been late for work, not once. Let us see what kind of working day it has above {name}.",
            ],
            turns: &[
                "The sun moves on, and so do we.",
                "Now something for curious people.",
                "Still awake? Then listen to this.",
                "Here is another one.",
            ],
            away: &["And down below, on the ground?"],
            close: &[
                "By the time you have told all that to somebody else, the sun will have moved a good bit across the sky of {name}. It never stops. Luckily we do, for ice cream or for a stretch.",
                "So when you wake up tomorrow, say good morning to the sun. It has come a long way, it will pass over {name} as well, and it remembers nothing. You can remember for it.",
            ],
        },
        Thread {
            lead: Chapter::Names,
            titles: &["Say It: {name}!", "A Word Like {name}", "The Name Game: {name}"],
            open: &[
                "Say {name}. Now say it like a robot. Now whisper it, like a secret. Now as slowly as a snail. Good, your mouths are warmed up, and we can begin.",
                "Some words are fun to say, and today we have one of those: {name}. Everyone in turn, in your funniest voice. Driver as well. Thank you, that was wonderful.",
            ],
            turns: &[
                "Back to normal voices for this one.",
                "Whisper the next part.",
                "And now in the voice of a sea captain.",
                "This one may be repeated loudly.",
            ],
            away: &[],
            close: &[
                "One last time, all together, and so loudly that they can hear it there: {name}! Very good. If anybody looked round just now, they must have known you were coming.",
                "And now the hardest game of all: nobody says {name} until you see it on a sign. Starting now!",
            ],
        },
    ],
    enter: [
        &[
            "Let us zoom out to the country.",
            "What do we know about the country all around?",
            "First the big picture.",
        ],
        &[
            "How many people are there? Guess first.",
            "Time for some really big numbers, or really small ones.",
            "Now, who lives there?",
        ],
        &[
            "Who are the neighbours?",
            "Let us look around.",
            "What is close by? Point before you answer.",
        ],
        &[
            "And now for the name.",
            "Here is something for word lovers.",
            "Do you like funny words?",
        ],
        &[
            "Noses to the window, look up!",
            "What does the sky do there?",
            "Here is one about the sun and the stars.",
        ],
        &[
            "Imagine holding the globe in your hands.",
            "Let us fly round the world and back before the next bend.",
            "Now think as big as you can.",
        ],
    ],
    asides: &[
        "Not bad, is it?",
        "Tell that to your teacher.",
        "Say it at dinner and watch the faces.",
        "I had to check that twice.",
        "Save that one for the next quiet moment.",
        "Wow, says the map.",
    ],
};
