"""The pages, as Streamlit runs them: `python -m training.demo` does."""

import streamlit as st
from PIL import Image

from training.demo.views import cluster, compare, runs

# A picture of our own: an icon by name would be fetched from a server of fonts.
icon = Image.new("RGB", (12, 12), "#2f7f9f")
icon.paste((207, 143, 63), (6, 6, 11, 11))
st.set_page_config(page_title="Stowage", page_icon=icon.resize((48, 48), Image.Resampling.NEAREST), layout="wide")
st.html(
    "<style>.block-container{padding-top:4rem;padding-bottom:3rem;max-width:1180px}"
    "h1{font-size:1.55rem!important;font-weight:600!important;padding:0 0 .2rem!important}"
    "h2,h3{font-size:1.05rem!important;font-weight:600!important;padding:.6rem 0 .1rem!important}"
    "@media(max-width:640px){.block-container{padding-left:1rem;padding-right:1rem}}</style>"
)
st.navigation(
    [
        st.Page(cluster.show, title="Cluster", icon=":material/grid_view:", url_path="cluster", default=True),
        st.Page(compare.show, title="Side by side", icon=":material/balance:", url_path="side-by-side"),
        st.Page(runs.show, title="Runs", icon=":material/show_chart:", url_path="runs"),
    ],
    position="top",
).run()
