"""Where rooms keep their data: one interface, one file per place, each with a fence against a former owner."""
