"""What is traded in the ticker: made-up companies by their symbols."""

COMPANIES = {
    "FRSH": "Freshet",
    "ACRN": "Acorn Foods",
    "ALDR": "Alder Timber",
    "BROK": "Brook Water",
    "CDAR": "Cedar Health",
    "CRAN": "Crane Logistics",
    "DELT": "Delta Shipping",
    "EMBR": "Ember Energy",
    "FERN": "Fern Robotics",
    "GLCR": "Glacier Cold",
    "HERN": "Heron Air",
    "IRIS": "Iris Optics",
    "LARK": "Lark Audio",
    "MESA": "Mesa Solar",
    "OSPR": "Osprey Space",
    "PINE": "Pine Paper",
    "QRRY": "Quarry Stone",
    "RIVR": "River Bank",
    "TIDE": "Tide Power",
    "WREN": "Wren Mobile",
}
