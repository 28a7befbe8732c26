"""What a bundle costs here: its time (`speed`), its memory and start (`fresh`), torch beside it (`eager`)."""
