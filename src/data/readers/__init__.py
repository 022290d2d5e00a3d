"""Reading what data sets come as: trees, archives, images, splits."""
