"""XMem: segmentation of given objects through a video by memories of different spans."""
