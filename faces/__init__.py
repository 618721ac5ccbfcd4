"""The face of a picture: found, cropped, and pasted back."""
