"""The settings of the commands that make and use datasets of weights."""
