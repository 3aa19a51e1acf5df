"""Everything the app can do, as functions: session first, plain values in, objects out. No Flask from here down."""
