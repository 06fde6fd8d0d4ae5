"""What a review gives: numbers with limits, and the files and reports that show them."""
