"""What the mount does beside answering requests: committing, sealing, following the feed, telling the kernel.

Tasks of one nursery in the thread of the request loop. Only what waits for a disk or for the kernel goes to a thread;
the tree itself is never touched from there.
"""
