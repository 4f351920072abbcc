"""What tests need, ours and other people's: the store kit, a local S3 server, faults."""
