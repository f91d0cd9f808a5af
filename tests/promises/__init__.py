"""What a server promises as a whole, tried from outside by real clients: order, no silent loss, bounds, who gets in."""
