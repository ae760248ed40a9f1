"""The codebook that ships, `1.bin`, and the script that made it. `constellation.codebook` reads it."""
