from st_simdiff.cli import main

main()
