"""Files of pictures before any is decoded: their kinds, the search for them below a folder, and damaged JPEGs."""
