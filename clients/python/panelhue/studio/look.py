"""The look of gradio's own parts; studio.css has the rest."""

from __future__ import annotations

from gradio.themes import Base, Color

# From light to dark, as gradio's hues are.
INK = (
    "#faf8f4",
    "#f4f2ee",
    "#e7e2d9",
    "#ddd7cc",
    "#b7afa3",
    "#8a8379",
    "#6a645c",
    "#4a453f",
    "#36332f",
    "#201f1d",
    "#161514",
)
RED = (
    "#fdf3ef",
    "#f9e0d6",
    "#f3c3b1",
    "#f0a587",
    "#f0845e",
    "#cf5731",
    "#a83a1b",
    "#8a2f16",
    "#6f2713",
    "#4d1c0e",
    "#331208",
)


def theme() -> Base:
    """Calm paper colours, light and dark, in the system's own fonts: nothing is fetched from anywhere."""
    ink = Color(*INK)
    red = Color(*RED)
    made = Base(
        primary_hue=red, neutral_hue=ink, font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return made.set(
        body_background_fill="#f4f2ee",
        body_background_fill_dark="#161514",
        body_text_color="#24211d",
        body_text_color_dark="#ece7df",
        body_text_color_subdued="#6a645c",
        body_text_color_subdued_dark="#a8a297",
        block_background_fill="#fffdf9",
        block_background_fill_dark="#201f1d",
        block_border_color="#ddd7cc",
        block_border_color_dark="#3a3733",
        block_label_text_color="#4a453f",
        block_label_text_color_dark="#ddd7cc",
        block_title_text_color="#4a453f",
        block_title_text_color_dark="#ddd7cc",
        block_info_text_color="#6a645c",
        block_info_text_color_dark="#a8a297",
        input_background_fill="#ffffff",
        input_background_fill_dark="#161514",
        button_primary_background_fill="#a83a1b",
        button_primary_background_fill_hover="#8a2f16",
        button_primary_background_fill_dark="#f0845e",
        button_primary_background_fill_hover_dark="#f0a587",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#1c120d",
        button_secondary_background_fill="#fffdf9",
        button_secondary_background_fill_dark="#201f1d",
        block_radius="10px",
        button_large_radius="8px",
    )
