//! Small trials of every scenario, as a user runs them.
