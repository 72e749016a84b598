"""The pages: widgets only; what they show is computed elsewhere.

Not named `pages`: Streamlit takes a folder of that name beside the app for its older way of finding pages, and until
`app` has run once, every address but `/` is refused.
"""
