from anogan_tf.cli import main

main()
