"""Segment anything: the network, the training of its mask decoder, labelled masks, overlaps."""
