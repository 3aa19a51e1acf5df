"""One blueprint per noun. A route parses, loads, calls one service and answers."""
