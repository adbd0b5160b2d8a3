"""Reading workflow code without running it: the picture of a workflow, and progress on it."""
