"""Certificates: whether one graph means the same as another (refinement), rule by rule. See docs/checker.md."""
