"""Into a review: tables that people filled in and exports of labelling tools."""
