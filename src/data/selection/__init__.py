"""Which images a split serves: classes, duplicates, subsets."""
