"""The page. Streamlit is imported only here."""
