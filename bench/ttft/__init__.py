"""How soon blends answer: time to first token of arms that take turns, in engines under the same binding."""
