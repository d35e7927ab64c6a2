"""How ``place`` chooses: patterns of names, and a model of how long a step takes."""
