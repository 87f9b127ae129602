"""pocketgenie: a Genie world model, exported, checked number by number, and played on small machines."""

__version__ = "0.1.0"
