//! What an operator would notice of pruning.
