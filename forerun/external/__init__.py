"""Programs of others: their captured graphs, made faster with the same bits."""
