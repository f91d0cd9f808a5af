"""The logs behind channels: one interface, one file per place where they are kept."""
