"""The kernel's FUSE protocol: structures, mounting, the loop that answers requests. Knows nothing of repositories."""
