"""Data sets as they are laid out on disk: ACDC, folders and tables of volumes, PASCAL VOC, COCO."""
