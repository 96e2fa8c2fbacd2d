"""The built-in prompts of the self-check: questions on facts, each answered by one of three passages."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatePrompt:
    """A question and the passages in front of it."""

    question: str
    passages: tuple[str, ...]
    prefix: str = "Answer the question from the documents. Be brief."


_RIVERS = (
    "The Danube is the second-longest river in Europe. It rises in the Black Forest of Germany, where the "
    "Breg and the Brigach meet at Donaueschingen, and flows south-east for about 2,850 kilometres through "
    "ten countries before it reaches the Black Sea. Four national capitals stand on its banks: Vienna, "
    "Bratislava, Budapest and Belgrade."
)
_LIGHT = (
    "Light travels through a vacuum at 299,792,458 metres in a second. The number is exact, because since "
    "1983 the metre has been defined by it. Light from the Sun needs about eight minutes and twenty seconds "
    "to reach the Earth, and light from Proxima Centauri, the nearest star beyond, a little over four years."
)
_TEA = (
    "All true tea is made of the leaves of one plant, Camellia sinensis. Green tea is heated soon after it "
    "is picked, which stops the leaves from oxidising; black tea is left to oxidise fully before it is "
    "dried; oolong lies between the two. Herbal infusions such as camomile or rooibos contain no tea leaves."
)
_BEES = (
    "A honey bee colony has one queen, some hundreds of drones and tens of thousands of workers. A worker "
    "that has found flowers tells the others by dancing on the comb: the angle of the dance to the vertical "
    "gives the direction relative to the sun, and its length the distance. Karl von Frisch, who explained "
    "the dance, received the Nobel Prize in 1973."
)
_PAPER = (
    "Paper was made in China in the second century, of mulberry bark, hemp and rags. The craft reached "
    "Samarkand in the eighth century and Europe in the twelfth. Paper made of wood pulp is a work of the "
    "nineteenth century: Friedrich Gottlob Keller ground wood for it in 1843, and newspapers soon grew cheap."
)

PROMPTS = (
    GatePrompt("Into which sea does the Danube flow?", (_TEA, _RIVERS, _LIGHT)),
    GatePrompt("Which plant is tea made of?", (_BEES, _TEA, _PAPER)),
    GatePrompt("Who explained the dance of the honey bees?", (_PAPER, _LIGHT, _BEES)),
    GatePrompt("How long does light from the Sun need to reach the Earth?", (_LIGHT, _RIVERS, _TEA)),
    GatePrompt("Where was paper first made?", (_RIVERS, _PAPER, _BEES)),
)
