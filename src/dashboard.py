"""Compare the runs of a W&B project, in a workspace and a report: python src/dashboard.py name=GROUP"""

from diffusion_lab.programs import dashboard

if __name__ == "__main__":
    dashboard()
