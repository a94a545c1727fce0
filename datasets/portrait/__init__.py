"""How a rendered face is drawn; `datasets.faces` is the way in."""

CLASS_NAMES = ("background", "skin", "hair", "eye", "eyebrow", "nose", "mouth", "ear")
BACKGROUND, SKIN, HAIR, EYE, BROW, NOSE, MOUTH, EAR = range(8)
