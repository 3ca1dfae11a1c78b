"""What sources share: cells and members as labels, class names, paths, encodings."""
