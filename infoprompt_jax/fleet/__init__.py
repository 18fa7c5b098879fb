"""A fleet: M members trained in one jitted step, their optimisers, and who they are."""
