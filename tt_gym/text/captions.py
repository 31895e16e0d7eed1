"""What the clips show, in several wordings each."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

STAND, SLOW, WALK, FAST, JOG = "stand", "walk slowly", "walk", "walk fast", "jog"
LEFT, RIGHT = "turn left", "turn right"
RAISE_LEFT, RAISE_RIGHT = "raise the left hand", "raise the right hand"
KICK, PUNCH = "kick", "punch"
_MIRRORED = {LEFT: RIGHT, RIGHT: LEFT, RAISE_LEFT: RAISE_RIGHT, RAISE_RIGHT: RAISE_LEFT}
ONE_SIDED = (KICK, PUNCH)
"""Done with one leg or arm, and the words do not say which."""


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """One kind of motion.

    Attributes:
        captions: wordings that the model is trained with.
        unseen: wordings that it is not trained with.
        clips: beginnings of the names of clips that show it.
    """

    captions: tuple[str, ...]
    unseen: tuple[str, ...]
    clips: tuple[str, ...] = ()


def _raising(side: str, other: str) -> Behaviour:
    return Behaviour(
        (
            f"a person raises the {side} hand",
            f"raise the {side} hand",
            f"raising the {side} arm",
            f"a man lifts his {side} arm up",
            f"someone puts the {side} hand up",
            f"the person holds the {side} hand above the head",
            f"hold up the {side} hand",
            f"{side} hand up",
            f"reach up with the {side} hand",
            f"someone stretches the {side} arm upwards",
            f"the figure lifts the {side} hand high",
            f"lift the {side} arm, not the {other} one",
            f"a person points up with the {side} hand",
            f"she raises her {side} arm",
        ),
        (
            f"a person is raising the {side} arm",
            f"someone lifts the {side} hand",
            f"put the {side} hand up",
            f"reach high with the {side} arm",
        ),
    )


BEHAVIOURS: dict[str, Behaviour] = {
    STAND: Behaviour(
        (
            "a person stands still",
            "standing",
            "stand still",
            "a man is standing in place",
            "someone stands and waits",
            "the person does not move",
            "stop and stand",
            "a person waits quietly",
            "remain standing",
            "someone stays where they are",
            "a person stops",
            "idle",
            "stay in place",
            "the figure stands motionless",
        ),
        (
            "a person is standing still and waiting",
            "keep still",
            "someone stands around",
            "do not move, just stand",
        ),
        ("idle",),
    ),
    SLOW: Behaviour(
        (
            "a person walks slowly",
            "walk slowly",
            "someone strolls along",
            "a slow walk",
            "a man is walking at a slow pace",
            "the person ambles forward",
            "stroll",
            "walking slowly forward",
            "someone takes slow steps ahead",
            "a leisurely walk",
            "a person walks very slowly",
            "slowly step forward",
            "the figure saunters",
            "a tired person walks slowly",
        ),
        (
            "someone is slowly walking ahead",
            "walk at a leisurely pace",
            "a man strolls slowly",
            "go forward with slow steps",
        ),
    ),
    WALK: Behaviour(
        (
            "a person walks forward",
            "walking",
            "walk",
            "a man is walking",
            "someone walks ahead",
            "the person walks straight",
            "go for a walk",
            "a person is walking normally",
            "walk straight ahead",
            "someone walks at a normal pace",
            "the figure walks forward",
            "a human walking forward",
            "take a walk",
            "she walks along",
        ),
        (
            "a person is walking forward",
            "someone walks straight forward",
            "walk ahead normally",
            "the man walks",
        ),
        ("walk",),
    ),
    FAST: Behaviour(
        (
            "a person walks fast",
            "walk fast",
            "walk quickly",
            "a brisk walk",
            "someone walks briskly",
            "a man is walking quickly",
            "the person strides ahead in a hurry",
            "a hurried walk",
            "power walking",
            "someone hurries forward on foot",
            "walking at a fast pace",
            "the figure walks rapidly",
            "walk with quick steps",
            "a person marches quickly",
        ),
        (
            "someone is walking very quickly",
            "walk at a brisk pace",
            "a man walks fast ahead",
            "hurry along, walking quickly",
        ),
    ),
    JOG: Behaviour(
        (
            "a person jogs",
            "jogging",
            "jog",
            "a man is jogging forward",
            "someone jogs along",
            "the person goes for a jog",
            "a slow run",
            "jog at an easy pace",
            "someone trots along",
            "a light jog",
            "the figure jogs ahead",
            "a jogger",
            "trot",
            "running slowly",
        ),
        (
            "a person is jogging",
            "someone jogs forward lightly",
            "go jogging",
            "jog ahead",
        ),
        ("jog",),
    ),
    "run": Behaviour(
        (
            "a person runs fast",
            "running",
            "run",
            "sprint",
            "a man is running fast",
            "someone sprints ahead",
            "the person runs at full speed",
            "run as fast as you can",
            "a fast run",
            "a runner races forward",
            "someone dashes forward",
            "the figure sprints",
            "run quickly",
            "she runs at top speed",
        ),
        (
            "a person is sprinting",
            "someone runs very fast",
            "run at full speed ahead",
            "dash",
        ),
        ("run",),
    ),
    LEFT: Behaviour(
        (
            "a person turns left",
            "turn left",
            "turning to the left",
            "walk in a circle to the left",
            "a man walks and turns left",
            "someone takes a left turn",
            "the person veers left",
            "go left",
            "walk around a curve to the left",
            "someone walks counterclockwise",
            "the figure curves to the left",
            "make a left",
            "head to the left side",
            "a left turn",
        ),
        (
            "someone is turning left",
            "walk to the left",
            "a person makes a left turn",
            "turn around to the left",
        ),
        ("turn_left",),
    ),
    RIGHT: Behaviour(
        (
            "a person turns right",
            "turn right",
            "turning to the right",
            "walk in a circle to the right",
            "a man walks and turns right",
            "someone takes a right turn",
            "the person veers right",
            "go right",
            "walk around a curve to the right",
            "someone walks clockwise",
            "the figure curves to the right",
            "make a right",
            "head to the right side",
            "a right turn",
        ),
        (
            "someone is turning right",
            "walk to the right",
            "a person makes a right turn",
            "turn around to the right",
        ),
        ("turn_right",),
    ),
    "jump": Behaviour(
        (
            "a person jumps",
            "jumping",
            "jump",
            "a man is jumping",
            "someone jumps up",
            "the person leaps into the air",
            "jump forward",
            "hop with both feet",
            "a high jump",
            "someone leaps forward",
            "the figure jumps up and lands",
            "leap",
            "jump as high as you can",
            "she hops up",
        ),
        (
            "a person is jumping up",
            "someone leaps",
            "jump into the air",
            "make a big jump",
        ),
        ("jump", "cmu_jumps"),
    ),
    KICK: Behaviour(
        (
            "a person kicks",
            "kicking",
            "kick",
            "a man kicks with his leg",
            "someone throws a high kick",
            "the person does a roundhouse kick",
            "kick hard",
            "a karate kick",
            "a martial arts kick",
            "someone kicks a target",
            "the figure kicks forward",
            "kick something with the foot",
            "a powerful kick",
            "she kicks the air",
        ),
        (
            "a person is kicking",
            "someone does a kick",
            "kick with a foot",
            "kick the box",
        ),
        ("kick",),
    ),
    PUNCH: Behaviour(
        (
            "a person punches",
            "punching",
            "punch",
            "a man throws a punch",
            "someone punches forward",
            "the person hits with the fist",
            "punch hard",
            "a boxing punch",
            "boxing",
            "someone strikes with a hand",
            "the figure throws a jab",
            "hit something with the fist",
            "a powerful punch",
            "she punches the air",
        ),
        (
            "a person is punching",
            "someone throws a hard punch",
            "punch with a fist",
            "a boxer punches",
        ),
        ("punch",),
    ),
    "sneak": Behaviour(
        (
            "a person sneaks",
            "sneaking",
            "sneak",
            "a man is sneaking forward",
            "someone tiptoes along",
            "the person walks stealthily",
            "a stealthy walk",
            "creep forward",
            "someone creeps ahead quietly",
            "walk crouched and quiet",
            "the figure sneaks like a thief",
            "tiptoe",
            "move stealthily",
            "a burglar sneaks around",
        ),
        (
            "a person is sneaking around",
            "someone walks stealthily forward",
            "sneak ahead quietly",
            "creep like a thief",
        ),
        ("stealthy_walk",),
    ),
    RAISE_RIGHT: _raising("right", "left"),
    RAISE_LEFT: _raising("left", "right"),
}
"""By name; clips know them by it."""

NAMES = tuple(BEHAVIOURS)
NONE = -1
"""Index of no behaviour that has words."""
CAPTIONS_EACH = len(BEHAVIOURS[STAND].captions)
_SPEEDS = (
    (STAND, 0.0, 0.1),
    (SLOW, 0.3, 0.75),
    (WALK, 0.8, 1.4),
    (FAST, 1.5, 2.0),
    (JOG, 2.1, 2.75),
    ("run", 2.85, 3.2),
)
_TURNING = 0.6  # rad left to turn: that is what a person would call it then


def mirrored(index: Tensor) -> Tensor:
    """Indices of behaviours (...,) as the mirrored humanoid shows them."""
    table = torch.tensor([NAMES.index(mirrored_name(name)) for name in NAMES])
    return torch.where(index == NONE, NONE, table[index])


def one_sided(index: Tensor) -> Tensor:
    """Where behaviours (...,) are :data:`ONE_SIDED`: bool.

    Told so and shown on either side they would teach the average of both, which is a fall.
    """
    sided = torch.tensor([name in ONE_SIDED for name in NAMES])
    return (index != NONE) & sided[index]


def mirrored_name(name: str) -> str:
    """The behaviour that the mirrored humanoid shows."""
    return _MIRRORED.get(name, name)


def of_clip(name: str) -> int:
    """Index of the behaviour that a recorded clip shows, :data:`NONE` if there are no words."""
    for behaviour, item in BEHAVIOURS.items():
        if name.startswith(item.clips):
            shown = mirrored_name(behaviour) if "_mirror" in name else behaviour
            return NAMES.index(shown)
    return NONE


def of_course(speed: Tensor, turn: Tensor) -> Tensor:
    """Indices of what is done on the way to ``speed`` (...,) m/s with ``turn`` (...,) rad left."""
    index = (speed * 0.0 + NONE).long()
    for name, low, high in _SPEEDS:
        index = index.masked_fill((speed >= low) & (speed <= high), NAMES.index(name))
    walking = speed <= _SPEEDS[2][2]
    index = index.masked_fill(turn.abs() > _TURNING, NONE)
    index = index.masked_fill(walking & (turn > _TURNING), NAMES.index(LEFT))
    return index.masked_fill(walking & (turn < -_TURNING), NAMES.index(RIGHT))
