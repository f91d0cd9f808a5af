"""The Centrifugal client protocol, version 2: JSON and Protobuf."""
